"""Ways to divide the rollouts of a step among its prompts."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from research.grpo.settings import Settings
from research.grpo.step import Groups
from research.policy_zoo.tasks import Task
from vzero_server.decisions.allocation import Constraints, allocate
from vzero_server.decisions.utility import Objective
from vzero_server.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Division:
    """Rollouts of each prompt, and what the arm took its success rates to be, if it asked.

    Attributes:
        counts: Rollouts, summing to the total of a step, (P,).
        believed: Success rates in [0, 1], (P,); None where the arm has no idea.
    """

    counts: IntArray
    believed: FloatArray | None


class Arm(Protocol):
    """Divides a step's rollouts, and is told what came of it."""

    def divide(self, tasks: list[Task], truth: FloatArray) -> Division:
        """Divide the rollouts of a step.

        Args:
            tasks: The step's P tasks.
            truth: The policy's success rate on each of them, (P,); for oracles only.
        """

    def learn(self, tasks: list[Task], groups: Groups, step: int) -> None:
        """Take note of the outcomes of step ``step`` (>= 1)."""


def even(settings: Settings) -> Division:
    """The same number of rollouts for every prompt."""
    return Division(np.full(settings.prompts, settings.group), None)


def divided(believed: FloatArray, settings: Settings, objective: Objective) -> IntArray:
    """Rollouts that are worth the most if ``believed``, (P,), are the success rates."""
    constraints = Constraints(settings.total, settings.minimum, settings.maximum)
    certain = np.full(len(believed), 1e9)
    return allocate(believed, certain, constraints, objective).rollouts


class Fixed:
    """GRPO as it is: every prompt gets the same number of rollouts."""

    def __init__(self, settings: Settings) -> None:
        """Keep the sizes."""
        self._settings = settings

    def divide(self, tasks: list[Task], truth: FloatArray) -> Division:
        """All the same."""
        return even(self._settings)

    def learn(self, tasks: list[Task], groups: Groups, step: int) -> None:
        """Nothing to learn."""


class Lagged:
    """The paper's baseline: its objective, on each prompt's own success rate an epoch ago.

    The first epoch is divided evenly: there is no earlier one.
    """

    def __init__(self, settings: Settings) -> None:
        """Remember nothing yet."""
        self._settings = settings
        self._rates: dict[str, float] = {}

    def divide(self, tasks: list[Task], truth: FloatArray) -> Division:
        """By the last success rate of each prompt."""
        if any(task.prompt not in self._rates for task in tasks):
            return even(self._settings)
        believed = np.array([self._rates[task.prompt] for task in tasks])
        return Division(divided(believed, self._settings, Objective.PAPER), believed)

    def learn(self, tasks: list[Task], groups: Groups, step: int) -> None:
        """Replace the success rates of these prompts."""
        self._rates |= zip([task.prompt for task in tasks], groups.rates.tolist(), strict=True)


class Oracle:
    """Knows the success rates: what dividing by an objective is worth at best."""

    def __init__(self, settings: Settings, objective: Objective) -> None:
        """Keep the sizes and the objective."""
        self._settings = settings
        self._objective = objective

    def divide(self, tasks: list[Task], truth: FloatArray) -> Division:
        """By the truth."""
        return Division(divided(truth, self._settings, self._objective), truth)

    def learn(self, tasks: list[Task], groups: Groups, step: int) -> None:
        """Nothing to learn."""
