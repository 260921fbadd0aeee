"""One policy trained under one arm."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch

from research.grpo.arms import Arm, divided
from research.grpo.chances import chances
from research.grpo.settings import Settings
from research.grpo.step import Groups, budgeted_step
from research.policy_zoo.evaluation import TrainingStream, evaluation_tasks
from research.policy_zoo.grpo import GrpoSettings
from research.policy_zoo.model import CharacterModel
from research.policy_zoo.optimizer import grpo_optimizer, warm_start_optimizer
from research.policy_zoo.policies import EVEN
from research.policy_zoo.tasks import FAMILIES, LEVELS, Task, draw
from research.policy_zoo.training import WARM_LEVELS
from research.policy_zoo.warmstart import demonstrations, warm_start_loss
from vzero_server.decisions.utility import Objective, utility
from vzero_server.types import FloatArray, IntArray

_WARM_SEED = 0
_TASK_SEED = 1


@dataclass(frozen=True, slots=True)
class Record:
    """What happened in one training, in lists of one entry per evaluation or step.

    Attributes:
        accuracy: Mean success rate on the held-out prompts: before training, then after every
            ``every`` steps.
        practised: Mean success rate on the step's prompts, before each step.
        silent: Share of rollouts that went to groups without variation, of each step.
        most: Largest group of each step.
        worth: What the division was worth by Eq. 10 at the true success rates, as a share of
            the best division, of each step.
        error: Mean squared error of the success rates the arm believed in, of each step; None
            where it had none.
        seconds: Wall time.
    """

    accuracy: list[float]
    practised: list[float]
    silent: list[float]
    most: list[int]
    worth: list[float]
    error: list[float | None]
    seconds: float


def held_out(settings: Settings) -> list[Task]:
    """The prompts that accuracy is measured on, the same for all seeds and arms."""
    return evaluation_tasks(settings.judged_per_cell)


def training_tasks(settings: Settings) -> list[Task]:
    """The training prompts, the same for all: as many of each family and level, none held out."""
    rng = Random(_TASK_SEED)
    taken = {task.prompt for task in held_out(settings)}
    tasks: list[Task] = []
    for family in FAMILIES:
        for level in LEVELS:
            wanted = len(tasks) + settings.practised_per_cell
            while len(tasks) < wanted:
                task = draw(rng, family, level)
                if task.prompt not in taken:
                    taken.add(task.prompt)
                    tasks.append(task)
    return tasks


def batches(tasks: list[Task], settings: Settings, seed: int) -> list[list[Task]]:
    """The prompts of every step: each epoch is a new order of all."""
    rng = np.random.default_rng(seed)
    steps: list[list[Task]] = []
    while len(steps) < settings.steps:
        order = rng.permutation(len(tasks)).reshape(-1, settings.prompts)
        steps += [[tasks[index] for index in row] for row in order.tolist()]
    return steps[: settings.steps]


def warm_started(settings: Settings, path: Path) -> CharacterModel:
    """The policy that all trainings start from, kept in a file."""
    torch.manual_seed(_WARM_SEED)
    model = CharacterModel(settings.shape)
    if not path.exists():
        excluded = frozenset(task.prompt for task in held_out(settings))
        stream = TrainingStream(_WARM_SEED, EVEN, WARM_LEVELS, excluded)
        optimizer, rng = warm_start_optimizer(model), Random(_WARM_SEED)
        for step in range(settings.warm_steps):
            scale = min(1.0, (step + 1) / 20) * max(0.05, 1 - step / settings.warm_steps)
            shown = stream.take(settings.warm_batch)
            optimizer.step(warm_start_loss(model, shown, demonstrations(shown, rng)), scale)
        torch.save(model.state_dict(), path)
    model.load_state_dict(torch.load(path))
    return model


def share_of_optimum(counts: IntArray, truth: FloatArray, settings: Settings) -> float:
    """Eq. 10 of a division at the true success rates, over that of the best division; (0, 1]."""
    table = utility(truth, settings.maximum)
    rows = np.arange(len(counts))
    best = divided(truth, settings, Objective.UTILITY)
    return float(table[rows, counts].sum() / max(table[rows, best].sum(), 1e-12))


def train(
    model: CharacterModel, arm: Arm, settings: Settings, seed: int, report: Callable[[int], None]
) -> Record:
    """Train a policy in place; ``report`` is called with the steps done so far."""
    judged = held_out(settings)
    optimizer = grpo_optimizer(model, settings.rate)
    generator = torch.Generator().manual_seed(seed)
    record = Record([float(chances(model, judged).mean())], [], [], [], [], [], 0.0)
    started = time.monotonic()
    steps = batches(training_tasks(settings), settings, seed)
    for step, tasks in enumerate(steps, start=1):
        truth = chances(model, tasks)
        division = arm.divide(tasks, truth)
        if division.counts.sum() != settings.total:
            raise RuntimeError(f"{division.counts.sum()} rollouts, not {settings.total}")
        groups = budgeted_step(
            model,
            optimizer,
            tasks,
            division.counts,
            generator,
            GrpoSettings(),
            min(1.0, step / 10),
        )
        arm.learn(tasks, groups, step)
        _note(record, division.believed, truth, groups, settings)
        if step % settings.every == 0:
            record.accuracy.append(float(chances(model, judged).mean()))
        report(step)
    return Record(
        record.accuracy,
        record.practised,
        record.silent,
        record.most,
        record.worth,
        record.error,
        round(time.monotonic() - started, 1),
    )


def _note(
    record: Record,
    believed: FloatArray | None,
    truth: FloatArray,
    groups: Groups,
    settings: Settings,
) -> None:
    record.practised.append(float(truth.mean()))
    record.silent.append(float(groups.counts[groups.silent].sum() / settings.total))
    record.most.append(int(groups.counts.max()))
    record.worth.append(share_of_optimum(groups.counts, truth, settings))
    error = None if believed is None else float(np.square(believed - truth).mean())
    record.error.append(error)
