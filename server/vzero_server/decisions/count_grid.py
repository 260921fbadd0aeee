"""The counts of rollouts that constraints allow, as columns of a table."""

import math
from dataclasses import dataclass

import numpy as np

from vzero_server.decisions.constraints import AllocationError, Constraints
from vzero_server.types import FloatArray, IntArray

# Entries of each table of one call: 32 MiB.
_MAX_ENTRIES = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class CountGrid:
    """Allowed counts of rollouts: ``step`` times a column.

    Attributes:
        step: Rollouts between two columns.
        max_count: Rollouts of the last column.
        start: First column of each prompt, ``[n]``: 0 for a prompt that may be skipped,
            ``least`` for the others.
        least: Lowest column of each prompt with enough rollouts, ``[n]``. Columns between
            ``start`` and ``least`` are not allowed.
        costs: Cost of one column of each prompt, ``[n]``.
        budget: Maximum cost of all columns, counted from column 0.
        rollout_costs: Cost of one rollout of each prompt, ``[n]``.
    """

    step: int
    max_count: int
    start: IntArray
    least: IntArray
    costs: FloatArray
    budget: float
    rollout_costs: FloatArray

    @classmethod
    def of(cls, prompts: int, constraints: Constraints) -> "CountGrid":
        """The grid of some constraints on a number of prompts.

        Raises:
            AllocationError: The constraints contradict each other or are out of range.
        """
        step = constraints.multiple_of
        _check_ranges(constraints)
        floors = np.zeros(prompts, np.int64) if constraints.floors is None else constraints.floors
        last = constraints.maximum // step
        least = -(-np.maximum(floors, constraints.minimum) // step)
        if (least > last).any():
            raise AllocationError(
                "multiple_of" if step > 1 else "uncertain_minimum",
                f"leaves no count of rollouts up to the maximum of {constraints.maximum}",
            )
        if prompts * (last * step + 1) > _MAX_ENTRIES:
            raise AllocationError("maximum", f"is too large for {prompts} prompts")
        start = np.where((floors == 0) & constraints.skip, 0, least)
        token_costs = constraints.token_costs
        rollout_costs = np.ones(prompts) if token_costs is None else token_costs
        if not (np.isfinite(rollout_costs) & (rollout_costs > 0.0)).all():
            raise AllocationError("token_costs", "must be positive")
        _check_total(constraints, float((rollout_costs * start).sum()) * step, prompts * last)
        return cls(
            step=step,
            max_count=last * step,
            start=start,
            least=least,
            costs=rollout_costs * step,
            budget=float(constraints.total),
            rollout_costs=rollout_costs,
        )

    def unspent(self, columns: IntArray) -> float:
        """Budget that is left after the cost of some columns, ``[n]``."""
        return self.budget - float(self.costs @ columns)


def _check_ranges(constraints: Constraints) -> None:
    """Check the constraints that do not depend on the prompts."""
    step, minimum, maximum = constraints.multiple_of, constraints.minimum, constraints.maximum
    if step < 1:
        raise AllocationError("multiple_of", f"must be at least 1, not {step}")
    if minimum < 0:
        raise AllocationError("minimum", f"must not be negative, is {minimum}")
    if maximum < max(1, minimum):
        raise AllocationError("maximum", f"must be at least 1 and the minimum, is {maximum}")


def _check_total(constraints: Constraints, lowest: float, max_columns: int) -> None:
    """Check the total against the lowest cost and the highest number of columns."""
    total, step = constraints.total, constraints.multiple_of
    if total < lowest:
        # The sum of large costs may overflow.
        needed = math.ceil(lowest) if math.isfinite(lowest) else "more than can be represented"
        raise AllocationError("total", f"is {total}, but the minima alone take {needed}")
    if constraints.token_costs is None:
        highest = max_columns * step
        if total > highest:
            raise AllocationError("total", f"is {total}, but the maxima only take {highest}")
        if total % step:
            raise AllocationError("total", f"is {total}, not a multiple of {step}")
