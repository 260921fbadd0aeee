"""The making of one policy: warm start, GRPO, and evaluations along the way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from research.policy_zoo.evaluation import TrainingStream
from research.policy_zoo.grpo import GrpoSettings, grpo_step, roll_out
from research.policy_zoo.model import CharacterModel
from research.policy_zoo.optimizer import grpo_optimizer, warm_start_optimizer
from research.policy_zoo.policies import Recipe
from research.policy_zoo.tasks import Task
from research.policy_zoo.warmstart import demonstrations, warm_start_loss
from vzero_server.types import Float32Array

EVALUATION_ROLLOUTS = 10
"""Rollouts per evaluation prompt: rewards are avg@10."""

WARM_LEVELS = (3.0, 2.0, 1.5, 1.0, 0.5)
"""Weights of levels 1 to 5 in the warm start, which leans to the easy ones."""

GRPO_LEVELS = (1.0, 1.0, 1.0, 1.0, 1.0)
"""Weights of levels 1 to 5 in GRPO, before they follow the policy's success."""

_CHUNK = 160


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Measured success of a policy at one GRPO step.

    Attributes:
        step: GRPO step, 0 after the warm start.
        rewards: Mean reward of the rollouts of each evaluation prompt, [0, 1], (N,).
        tokens: Mean characters generated per rollout, the end mark included, (N,).
    """

    step: int
    rewards: Float32Array
    tokens: Float32Array


def evaluate(model: CharacterModel, tasks: list[Task], step: int, seed: int) -> Checkpoint:
    """Measure a policy on every evaluation task, at the training temperature."""
    generator = torch.Generator().manual_seed(seed)
    rewards, tokens = list[torch.Tensor](), list[torch.Tensor]()
    for start in range(0, len(tasks), _CHUNK):
        part = tasks[start : start + _CHUNK]
        counts = np.full(len(part), EVALUATION_ROLLOUTS)
        rollouts = roll_out(model, part, counts, generator, GrpoSettings().temperature)
        # Whole counts divided once, so that rewards are exact multiples of a tenth.
        rewards.append(rollouts.rewards.sum(1) / EVALUATION_ROLLOUTS)
        tokens.append(rollouts.lengths().sum(1) / EVALUATION_ROLLOUTS)
    return Checkpoint(step, torch.cat(rewards).numpy(), torch.cat(tokens).numpy())


def train(
    recipe: Recipe, seed: int, tasks: list[Task], report: Callable[[int], None]
) -> Iterator[Checkpoint]:
    """Train a policy, yielding a checkpoint every ``recipe.every`` steps, step 0 included.

    Args:
        recipe: How the policy is made.
        seed: Seed of the build; with the recipe's, it settles all randomness.
        tasks: Evaluation tasks; their prompts are kept out of training.
        report: Called with the number of optimization steps done, from 1.
    """
    settled = 1000 * seed + recipe.seed
    torch.manual_seed(settled)
    model = CharacterModel(recipe.shape)
    excluded = frozenset(task.prompt for task in tasks)
    stream = TrainingStream(2 * settled, recipe.families, WARM_LEVELS, excluded)
    optimizer = warm_start_optimizer(model)
    rng = Random(settled)
    for step in range(recipe.warm_steps):
        scale = min(1.0, (step + 1) / 20) * max(0.05, 1 - step / recipe.warm_steps)
        shown = stream.take(recipe.warm_batch)
        optimizer.step(warm_start_loss(model, shown, demonstrations(shown, rng)), scale)
        report(step + 1)

    yield evaluate(model, tasks, 0, settled)
    stream = TrainingStream(2 * settled + 1, recipe.families, GRPO_LEVELS, excluded)
    optimizer = grpo_optimizer(model)
    generator = torch.Generator().manual_seed(settled)
    counts = np.full(recipe.prompts, recipe.rollouts)
    for step in range(1, recipe.steps + 1):
        practised = stream.take(recipe.prompts)
        scale = min(1.0, step / 10) * max(0.1, 1 - step / recipe.steps)
        rollouts = grpo_step(model, optimizer, practised, counts, generator, GrpoSettings(), scale)
        stream.learn(practised, rollouts.rewards.mean(1).tolist())
        report(recipe.warm_steps + step)
        if step % recipe.every == 0:
            yield evaluate(model, tasks, step, settled + step)
