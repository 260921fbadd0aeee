"""The policies of the zoo: their sizes, seeds, and what each of them practises."""

from collections.abc import Mapping
from dataclasses import dataclass

from research.policy_zoo.model import Shape
from research.policy_zoo.tasks import FAMILIES, NUMBERS

EVEN: Mapping[str, float] = dict.fromkeys(FAMILIES, 1.0)
"""A generalist: every family alike."""

NUMERATE: Mapping[str, float] = {f: 1.0 if f in NUMBERS else 0.25 for f in FAMILIES}
"""A specialist on numbers: letter families get a quarter of the weight."""

LITERATE: Mapping[str, float] = {f: 0.25 if f in NUMBERS else 1.0 for f in FAMILIES}
"""A specialist on letters: number families get a quarter of the weight."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one policy is made.

    Attributes:
        name: Name of the policy in the dataset.
        shape: Size of the model.
        seed: Seed of the policy, added to the seed of the build.
        families: Weight of each family in warm start and in GRPO.
        focus: What the weights favour, in words.
        warm_steps: Steps of the supervised warm start, >= 1.
        warm_batch: Tasks per warm-start step, >= 1.
        steps: GRPO steps, a multiple of ``every``.
        every: GRPO steps between evaluations, >= 1.
        prompts: Prompts per GRPO step, >= 2.
        rollouts: Rollouts per prompt, >= 2.
    """

    name: str
    shape: Shape
    seed: int
    families: Mapping[str, float]
    focus: str
    warm_steps: int
    warm_batch: int
    steps: int
    every: int
    prompts: int
    rollouts: int


SMALL, BASE = Shape(width=64, layers=2), Shape(width=80, layers=3)


def _small(name: str, seed: int, families: Mapping[str, float], focus: str) -> Recipe:
    return Recipe(name, SMALL, seed, families, focus, 480, 256, 360, 45, 144, 8)


def _base(name: str, seed: int, families: Mapping[str, float], focus: str) -> Recipe:
    return Recipe(name, BASE, seed, families, focus, 420, 256, 360, 45, 144, 8)


# In the order in which they are trained: the slow ones first.
RECIPES = (
    _base("zoo-base-s0", 0, EVEN, "all families"),
    _base("zoo-base-s1", 1, NUMERATE, "numbers"),
    _small("zoo-small-s0", 0, EVEN, "all families"),
    _small("zoo-small-s1", 1, LITERATE, "letters"),
)
"""Two sizes, two seeds, three mixtures."""

_TINY = Shape(width=32, layers=2)

QUICK_RECIPES = (
    Recipe("zoo-tiny-s0", _TINY, 0, EVEN, "all families", 12, 64, 4, 2, 16, 4),
    Recipe("zoo-tiny-s1", _TINY, 1, LITERATE, "letters", 12, 64, 4, 2, 16, 4),
)
"""Two untrained-looking policies for a quick check that everything runs."""
