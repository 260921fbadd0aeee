"""One GRPO step with groups of very different sizes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from research.policy_zoo.grpo import GrpoSettings, Rollouts, grpo_loss, roll_out
from research.policy_zoo.model import CharacterModel
from research.policy_zoo.optimizer import Optimizer
from research.policy_zoo.tasks import Task
from vzero_server.types import BoolArray, FloatArray, IntArray

_ROW = 8


@dataclass(frozen=True, slots=True)
class Groups:
    """What the groups of a step earned.

    Attributes:
        counts: Rollouts of each prompt, (P,).
        successes: How many of them were right, (P,).
    """

    counts: IntArray
    successes: IntArray

    @property
    def rates(self) -> FloatArray:
        """Share of right rollouts of each prompt, (P,); 0 for a prompt without any."""
        rates: FloatArray = self.successes / np.maximum(self.counts, 1)
        return rates

    @property
    def silent(self) -> BoolArray:
        """Groups without a success or without a failure: they teach nothing. (P,)."""
        silent: BoolArray = (self.successes == 0) | (self.successes == self.counts)
        return silent


def split(counts: IntArray, size: int = _ROW) -> tuple[IntArray, IntArray]:
    """Cut groups into rows of at most ``size`` rollouts, so that a batch is not mostly padding.

    Returns:
        For each row its group, and its number of rollouts, 1 to ``size``; (R,) each.
    """
    rows = -(-counts // size)
    group = np.repeat(np.arange(len(counts)), rows)
    place = np.arange(len(group)) - np.repeat(np.cumsum(rows) - rows, rows)
    return group, np.minimum(counts[group] - place * size, size)


def group_advantages(rewards: Tensor, present: Tensor, group: Tensor, eps: float = 1e-4) -> Tensor:
    """Advantages (reward - mean) / (std + eps) within groups that may take several rows.

    Args:
        rewards: Rewards (R, G).
        present: Which places hold a rollout, (R, G).
        group: Group of each row, (R,).
        eps: Added to the standard deviation, > 0.

    Returns:
        Advantages (R, G): 0 where there is no rollout, and in groups without variation.
    """
    groups = int(group.max()) + 1
    here = present.to(rewards.dtype)

    def mean(values: Tensor) -> Tensor:
        total = torch.zeros(groups).index_add_(0, group, (values * here).sum(1))
        size = torch.zeros(groups).index_add_(0, group, here.sum(1))
        return (total / size.clamp(min=1))[group][:, None]

    centred = (rewards - mean(rewards)) * here
    return centred / (mean(centred.square()).sqrt() + eps)


def budgeted_step(
    model: CharacterModel,
    optimizer: Optimizer,
    tasks: list[Task],
    counts: IntArray,
    generator: torch.Generator,
    settings: GrpoSettings,
    scale: float = 1.0,
) -> Groups:
    """Sample, verify, and update the model on the groups with variation.

    Args:
        model: The policy, changed in place.
        optimizer: Its optimizer.
        tasks: P tasks to practise.
        counts: Rollouts of each task, >= 0, (P,).
        generator: Source of all randomness of the step.
        settings: Settings of GRPO.
        scale: Factor on the learning rate, >= 0.
    """
    group, sizes = split(counts)
    rollouts = roll_out(
        model, [tasks[index] for index in group], sizes, generator, settings.temperature
    )
    gains = group_advantages(rollouts.rewards, rollouts.present, torch.as_tensor(group))
    useful = gains.abs().sum(1).nonzero()[:, 0]
    order = useful[torch.randperm(len(useful), generator=generator)]
    for part in order.chunk(settings.minibatches) if len(order) else ():
        batch = Rollouts(
            rollouts.prompts[part],
            rollouts.tokens[part],
            rollouts.logs[part],
            rollouts.rewards[part],
            rollouts.counts[part],
        )
        optimizer.step(grpo_loss(model, batch, gains[part], settings), scale)
    earned = np.bincount(group, rollouts.rewards.sum(1).numpy(), minlength=len(tasks))
    return Groups(counts, earned.round().astype(np.int64))
