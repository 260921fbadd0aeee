"""Group relative policy optimization with a number of rollouts of its own for every prompt."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from research.policy_zoo.model import PAD, CharacterModel, decode, encode_prompts
from research.policy_zoo.optimizer import Optimizer
from research.policy_zoo.tasks import Task, verify


@dataclass(frozen=True, slots=True)
class GrpoSettings:
    """Settings of GRPO.

    Attributes:
        temperature: Sampling temperature, > 0.
        clip: Half-width of the trust region of the probability ratio, > 0.
        minibatches: Updates per batch of rollouts, >= 1; one is plain on-policy.
        entropy: Weight of the entropy bonus, in reward per nat, >= 0.
    """

    temperature: float = 1.0
    clip: float = 0.2
    minibatches: int = 2
    entropy: float = 0.0


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Rollouts of P prompts, up to G each.

    Attributes:
        prompts: Prompt tokens (P, T), padded on the left.
        tokens: Answer tokens (P, G, A), PAD after END. A policy may sample PAD itself, if hardly
            ever: the answer is then malformed, earns 0, and that token is neither counted nor
            trained on.
        logs: Log-probability of each token when it was sampled, in nats (P, G, A).
        rewards: Verified rewards in [0, 1], (P, G); 0 beyond a prompt's number of rollouts.
        counts: Rollouts of each prompt, 0 to G, int64 (P,).
    """

    prompts: Tensor
    tokens: Tensor
    logs: Tensor
    rewards: Tensor
    counts: Tensor

    @property
    def present(self) -> Tensor:
        """Which of the (P, G) places hold a rollout."""
        return torch.arange(self.rewards.shape[1]) < self.counts[:, None]

    def lengths(self) -> Tensor:
        """Generated characters of each rollout, END included: int64 (P, G)."""
        return (self.tokens != PAD).sum(-1) * self.present


def roll_out(
    model: CharacterModel,
    tasks: list[Task],
    counts: NDArray[np.integer],
    generator: torch.Generator,
    temperature: float = 1.0,
) -> Rollouts:
    """Sample ``counts[i]`` (>= 0) answers to ``tasks[i]`` and verify each of them."""
    prompts = encode_prompts([task.prompt for task in tasks])
    sizes = torch.as_tensor(np.asarray(counts, dtype=np.int64))
    tokens, logs = model.sample(prompts, int(sizes.max()), generator, temperature)
    rewards = torch.zeros(tokens.shape[:2])
    for row, (task, size, group) in enumerate(zip(tasks, counts, tokens.tolist(), strict=True)):
        for column in range(int(size)):
            text = decode(group[column])
            rewards[row, column] = 0.0 if text is None else verify(task, text)
    return Rollouts(prompts, tokens, logs, rewards, sizes)


def advantages(rewards: Tensor, counts: Tensor, eps: float = 1e-4) -> Tensor:
    """Advantages (reward - mean) / (std + eps) within each group.

    Args:
        rewards: Rewards (P, G).
        counts: Rollouts of each prompt (P,); places beyond them are ignored.
        eps: Added to the standard deviation, > 0.

    Returns:
        Advantages (P, G): 0 beyond a prompt's rollouts and in groups without variation.
    """
    present = (torch.arange(rewards.shape[1]) < counts[:, None]).to(rewards.dtype)
    size = counts.clamp(min=1)[:, None]
    centred = (rewards - (rewards * present).sum(1, keepdim=True) / size) * present
    std = (centred.square().sum(1, keepdim=True) / size).sqrt()
    return centred / (std + eps)


def grpo_loss(
    model: CharacterModel, rollouts: Rollouts, gains: Tensor, settings: GrpoSettings
) -> Tensor:
    """Clipped policy-gradient loss per generated character, given advantages (P, G)."""
    logits = model(rollouts.prompts, rollouts.tokens) / settings.temperature
    every = logits.log_softmax(dim=-1)
    mask = (rollouts.tokens != PAD) & rollouts.present[..., None]
    ratio = (every.gather(-1, rollouts.tokens[..., None])[..., 0] - rollouts.logs).exp()
    gain = gains[..., None]
    clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
    objective = torch.minimum(ratio * gain, clipped * gain)
    if settings.entropy > 0:
        objective = objective - settings.entropy * (every.exp() * every).sum(-1)
    return -(objective * mask).sum() / mask.sum().clamp(min=1)


def grpo_step(
    model: CharacterModel,
    optimizer: Optimizer,
    tasks: list[Task],
    counts: NDArray[np.integer],
    generator: torch.Generator,
    settings: GrpoSettings,
    scale: float = 1.0,
) -> Rollouts:
    """One GRPO step: sample, verify, and update the model on the groups with variation.

    Args:
        model: The policy, changed in place.
        optimizer: Its optimizer.
        tasks: P tasks to practise.
        counts: Rollouts to spend on each task, >= 0, (P,). One rollout teaches nothing.
        generator: Source of all randomness of the step.
        settings: Settings of GRPO.
        scale: Factor on the learning rates, >= 0.

    Returns:
        The rollouts of the step, with their rewards.
    """
    rollouts = roll_out(model, tasks, counts, generator, settings.temperature)
    gains = advantages(rollouts.rewards, rollouts.counts)
    # A group whose rewards are all equal has no advantage, hence no gradient: leave it out.
    useful = gains.abs().sum(1).nonzero()[:, 0]
    if len(useful) == 0:
        return rollouts
    order = useful[torch.randperm(len(useful), generator=generator)]
    for part in order.chunk(settings.minibatches):
        size = int(rollouts.counts[part].max())
        batch = Rollouts(
            rollouts.prompts[part],
            rollouts.tokens[part, :size],
            rollouts.logs[part, :size],
            rollouts.rewards[part, :size],
            rollouts.counts[part],
        )
        optimizer.step(grpo_loss(model, batch, gains[part, :size], settings), scale)
    return rollouts
