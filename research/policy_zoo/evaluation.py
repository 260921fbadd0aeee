"""The fixed evaluation prompts, and the stream of training prompts that never touches them."""

from collections.abc import Mapping, Sequence
from random import Random

from research.policy_zoo.tasks import FAMILIES, LEVELS, Task, draw

EVALUATION_SEED = 2602
"""Seed of the evaluation prompts: the same for every policy, whatever the seed of a build."""

PER_CELL = 32
"""Evaluation prompts per family and level: 10 x 5 x 32 = 1,600 in all."""

Cell = tuple[str, int]
"""A family and a level."""


def evaluation_tasks(per_cell: int = PER_CELL) -> list[Task]:
    """Draw the evaluation tasks: ``per_cell`` distinct prompts for each family and level."""
    rng = Random(EVALUATION_SEED)
    # Levels of a family overlap in places: a prompt belongs to the level that drew it first.
    tasks: dict[str, Task] = {}
    for family in FAMILIES:
        for level in LEVELS:
            wanted = len(tasks) + per_cell
            while len(tasks) < wanted:
                task = draw(rng, family, level)
                tasks.setdefault(task.prompt, task)
    return list(tasks.values())


class TrainingStream:
    """Endless training tasks, drawn from a mixture of families and levels.

    The mixture can follow the policy: ``learn`` moves it toward the cells (family, level) that
    are neither mastered nor out of reach, which is where groups of rollouts differ.

    Args:
        seed: Seed of the stream.
        families: Weight of each family, >= 0; those left out are never drawn.
        levels: Weight of each level 1 to 5, >= 0, length 5.
        excluded: Prompts never drawn: those of the evaluation.
    """

    def __init__(
        self,
        seed: int,
        families: Mapping[str, float],
        levels: Sequence[float],
        excluded: frozenset[str],
    ) -> None:
        """Keep the mixture and seed the generator."""
        self._rng = Random(seed)
        self._excluded = excluded
        self._base = {
            (family, level): weight * share
            for family, weight in families.items()
            for level, share in zip(LEVELS, levels, strict=True)
        }
        self._weights = dict(self._base)
        self._success: dict[Cell, float] = {}

    def take(self, count: int) -> list[Task]:
        """Draw ``count`` (>= 0) tasks whose prompts are not in the evaluation."""
        cells, weights = list(self._weights), list(self._weights.values())
        tasks: list[Task] = []
        while len(tasks) < count:
            family, level = self._rng.choices(cells, weights)[0]
            task = draw(self._rng, family, level)
            if task.prompt not in self._excluded:
                tasks.append(task)
        return tasks

    def learn(self, tasks: Sequence[Task], rewards: Sequence[float]) -> None:
        """Take note of the mean reward, in [0, 1], that the policy just had on each task."""
        for task, reward in zip(tasks, rewards, strict=True):
            cell = (task.family, task.level)
            old = self._success.get(cell, reward)
            self._success[cell] = 0.9 * old + 0.1 * reward
        for cell, success in self._success.items():
            self._weights[cell] = self._base[cell] * (0.02 + success * (1.0 - success))
