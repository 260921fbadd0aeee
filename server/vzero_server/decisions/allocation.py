"""Allocation of rollouts to the prompts of a batch (paper, section 5.5)."""

from dataclasses import dataclass

import numpy as np

from vzero_server.decisions.constraints import AllocationError, Constraints
from vzero_server.decisions.count_grid import CountGrid
from vzero_server.decisions.envelope import envelope_slopes
from vzero_server.decisions.exact import Problem, find_optimum
from vzero_server.decisions.greedy import greedy_columns, spend_rest
from vzero_server.decisions.relaxation import relax
from vzero_server.decisions.utility import Objective, total_utility, utility_table
from vzero_server.types import FloatArray, IntArray

__all__ = ["Allocation", "AllocationError", "Constraints", "allocate"]

# States of the dynamic programme. By default they cost about as much time as the rest of the
# call; for an exact allocation, up to about a minute and a quarter of a GiB.
_DEFAULT_STATES, _EXACT_STATES = 1 << 14, 1 << 25
# Utilities are equal if they differ by less than this, relative to the larger.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """Rollouts of each prompt, and their utility.

    Attributes:
        rollouts: Rollouts of each prompt, ``[n]``.
        utility: Their utility under the objective.
        upper_bound: No allocation within the constraints has a higher utility. Equal to
            ``utility`` if the allocation is known to be optimal.
        spent: Their cost, in the unit of ``Constraints.total``.
    """

    rollouts: IntArray
    utility: float
    upper_bound: float
    spent: float


def allocate(
    mean: FloatArray,
    effective_sample_size: FloatArray,
    constraints: Constraints,
    objective: Objective = Objective.EXPECTED,
    *,
    exact: bool = False,
) -> Allocation:
    """Allocate rollouts to prompts so that the objective is maximal (Eq. 9).

    The utility of each prompt is replaced by its concave envelope. This relaxation is solved by
    taking the steepest increments first. Its utility bounds that of every allocation from above.
    Its solution is an allocation but for the last increment, which may be part of a chord; the
    budget of that part is spent on the prompt of the chord or on others. If the allocation stays
    below the bound, dynamic programming searches for the optimum, up to a limit that ``exact``
    raises. If the search reaches the limit, the paper's greedy allocation is returned where it is
    better.

    Args:
        mean: Values of the prompts, ``[n]``, in [0, 1]; n at least 1.
        effective_sample_size: Effective sample size of each value, ``[n]``, positive.
        constraints: Limits of the allocation.
        objective: What to maximise. ``PAPER`` is always greedy, even if ``exact`` is true.
        exact: Return an optimal allocation, even if the search takes a minute.

    Raises:
        AllocationError: The constraints contradict each other or are out of range, or the
            search for an optimal allocation reached its limit.
    """
    grid = CountGrid.of(len(mean), constraints)
    utilities = utility_table(objective, mean, effective_sample_size, grid.max_count)
    utilities = utilities[:, :: grid.step]
    if constraints.skip:
        # No rollouts or at least the minimum.
        columns = np.arange(utilities.shape[1])
        forbidden = (columns > grid.start[:, None]) & (columns < grid.least[:, None])
        utilities = np.where(forbidden, -np.inf, utilities)
    efficiency = envelope_slopes(utilities, grid.start) / grid.costs[:, None]
    relaxation = relax(utilities, efficiency, grid)
    if objective is Objective.PAPER:
        return _allocation(utilities, greedy_columns(utilities, grid), grid, relaxation.bound)
    filled = [spend_rest(utilities, columns, grid) for columns in relaxation.candidates]
    best = max(filled, key=lambda columns: total_utility(utilities, columns))
    if _equal(total_utility(utilities, best), relaxation.bound):
        return _allocation(utilities, best, grid, relaxation.bound)
    problem = Problem(utilities, grid.costs, grid.budget, grid.start, relaxation.price)
    optimum = find_optimum(problem, best, _EXACT_STATES if exact else _DEFAULT_STATES)
    if optimum is not None:
        best = spend_rest(utilities, optimum, grid)
        return _allocation(utilities, best, grid, total_utility(utilities, best))
    if exact:
        raise AllocationError("exact", "takes too long with so many prompts and so large a total")
    candidates = (best, greedy_columns(utilities, grid))
    best = max(candidates, key=lambda columns: total_utility(utilities, columns))
    return _allocation(utilities, best, grid, relaxation.bound)


def _equal(utility: float, bound: float) -> bool:
    """Whether two utilities differ by rounding only."""
    return abs(utility - bound) <= _ROUNDING * max(abs(utility), abs(bound), 1e-300)


def _allocation(
    utilities: FloatArray, columns: IntArray, grid: CountGrid, bound: float
) -> Allocation:
    rollouts = columns * grid.step
    utility = total_utility(utilities, columns)
    return Allocation(rollouts, utility, max(bound, utility), float(rollouts @ grid.rollout_costs))
