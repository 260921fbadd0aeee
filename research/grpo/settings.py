"""Sizes of the experiment."""

from dataclasses import dataclass

from research.policy_zoo.model import Shape
from research.policy_zoo.policies import SMALL

ARMS = (
    "fixed",
    "lagged",
    "paper",
    "expected",
    "nonzero_gradient",
    "oracle_paper",
    "oracle_nonzero_gradient",
)
"""Ways to divide a step's rollouts; see ``arms.py``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all arms of the experiment have in common.

    Attributes:
        shape: Size of the policy.
        warm_steps: Steps of the supervised warm start, >= 1; all trainings start from its policy.
        warm_batch: Tasks per warm-start step, >= 1.
        practised_per_cell: Training prompts of each of the 50 families and levels, >= 1. They
            are visited epoch by epoch.
        judged_per_cell: Held-out prompts of each family and level, >= 1.
        prompts: Prompts per GRPO step; divides the number of training prompts.
        group: Rollouts per prompt on average; a step spends ``prompts * group``.
        minimum: Fewest rollouts of a prompt (paper: 2, Eq. 55).
        maximum: Most rollouts of a prompt: three times the mean. With eight times the mean, as in
            the paper (128 and 16), a step practises too few prompts: in a pilot of one seed, even
            rollouts divided by the true success rates then taught less than fixed groups.
        steps: GRPO steps, a multiple of ``every``.
        every: GRPO steps between evaluations, >= 1.
        rate: Learning rate of GRPO, > 0, constant after ten steps.
    """

    shape: Shape = SMALL
    warm_steps: int = 480
    warm_batch: int = 256
    practised_per_cell: int = 40
    judged_per_cell: int = 8
    prompts: int = 125
    group: int = 8
    minimum: int = 2
    maximum: int = 24
    steps: int = 64
    every: int = 4
    rate: float = 5e-4

    @property
    def warm_start(self) -> tuple[int, ...]:
        """What the policy that all trainings start from depends on."""
        shape = (self.shape.width, self.shape.layers, self.shape.heads)
        return (*shape, self.warm_steps, self.warm_batch, self.judged_per_cell)

    @property
    def total(self) -> int:
        """Rollouts of a step."""
        return self.prompts * self.group


QUICK = Settings(
    shape=Shape(width=32, layers=2),
    warm_steps=30,
    warm_batch=64,
    practised_per_cell=1,
    judged_per_cell=1,
    prompts=25,
    group=4,
    maximum=32,
    steps=6,
    every=2,
)
"""A run that shows only that everything runs."""
