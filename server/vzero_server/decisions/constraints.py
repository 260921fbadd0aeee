"""Constraints of an allocation, and the error for constraints that cannot be met."""

from dataclasses import dataclass

import numpy as np

from vzero_server.types import FloatArray, IntArray


class AllocationError(ValueError):
    """No allocation meets the constraints.

    Attributes:
        field: The constraint that cannot be met, by its name in a request.
        description: The problem with it.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field} {description}")
        self.field = field
        self.description = description


@dataclass(frozen=True, slots=True, eq=False)
class Constraints:
    """Limits that an allocation must respect.

    Attributes:
        total: Rollouts of all prompts together. All of them are allocated unless ``skip`` is
            true. With ``token_costs``, the maximum number of tokens instead.
        minimum: Minimum rollouts per prompt (paper: 2, Eq. 55).
        maximum: Maximum rollouts per prompt (paper: 128).
        multiple_of: The rollouts of each prompt are a multiple of this number. The minimum is
            rounded up to a multiple, the maximum down.
        token_costs: Tokens of one rollout of each prompt, ``[n]``, positive; None: 1 each.
        floors: Minimum rollouts of individual prompts, ``[n]``, where higher than ``minimum``;
            0 elsewhere; None: 0 everywhere. See ``uncertainty_floors``.
        skip: Whether a prompt may get no rollouts instead of the minimum. Prompts with a floor
            are never skipped.
    """

    total: int
    minimum: int = 2
    maximum: int = 128
    multiple_of: int = 1
    token_costs: FloatArray | None = None
    floors: IntArray | None = None
    skip: bool = False


def uncertainty_floors(lower: FloatArray, upper: FloatArray, width: float, floor: int) -> IntArray:
    """Floors for prompts with uncertain values, ``[n]``.

    Args:
        lower: Lower ends of the intervals, ``[n]``.
        upper: Upper ends of the intervals, ``[n]``.
        width: Minimum width of an interval that counts as uncertain.
        floor: Floor of a prompt with an uncertain value; the others get 0.
    """
    floors: IntArray = np.where(upper - lower >= width, floor, 0).astype(np.int64)
    return floors
