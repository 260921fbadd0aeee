"""How many rollouts each prompt of a batch gets (paper, section 5.5)."""

import math
from dataclasses import dataclass

import numpy as np

from vzero_server.decisions.envelope import majorant_slopes
from vzero_server.decisions.exact import Problem, close_gap
from vzero_server.decisions.utility import Objective, tables
from vzero_server.types import FloatArray, IntArray

# Entries of the tables of one call: 32 MiB each.
_MOST_ENTRIES = 1 << 22
# States that are looked at to close a gap: by default about what the rest of the call costs,
# if the optimum is demanded as many as a minute and a quarter of a GiB hold.
_QUICK, _THOROUGH = 1 << 14, 1 << 25
# Utilities closer than this, relative to the larger, are the same.
_ROUNDING = 1e-9


class AllocationError(ValueError):
    """No allocation meets the constraints.

    Attributes:
        field: The constraint to blame, as a caller names it.
        description: What is wrong with it.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field} {description}")
        self.field = field
        self.description = description


@dataclass(frozen=True, slots=True, eq=False)
class Constraints:
    """What an allocation must keep to.

    Attributes:
        total: Rollouts of all prompts together, all of which are given away if ``skip`` is
            false; with ``token_costs``, most tokens they may cost.
        minimum: Fewest rollouts of a prompt (paper: 2, Eq. 55).
        maximum: Most rollouts of a prompt (paper: 128).
        multiple_of: What the rollouts of each prompt are a multiple of. It moves the minimum
            up and the maximum down.
        token_costs: What one rollout of each prompt costs, ``[n]``, positive; None: 1 each.
        floors: Fewest rollouts of single prompts, ``[n]``, where above the minimum; None: no
            such prompts. See ``uncertainty_floors``.
        skip: Whether a prompt may get no rollout at all instead of the minimum, unless
            ``floors`` names it.
    """

    total: int
    minimum: int = 2
    maximum: int = 128
    multiple_of: int = 1
    token_costs: FloatArray | None = None
    floors: IntArray | None = None
    skip: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Allocation:
    """Rollouts and what they are worth.

    Attributes:
        rollouts: Of each prompt, ``[n]``.
        utility: Their worth under the objective.
        upper_bound: No allocation that meets the constraints is worth more. Equal to
            ``utility`` where that is known to be the optimum.
        spent: What they cost, in the unit of ``Constraints.total``.
    """

    rollouts: IntArray
    utility: float
    upper_bound: float
    spent: float


def uncertainty_floors(lower: FloatArray, upper: FloatArray, width: float, floor: int) -> IntArray:
    """``floor`` rollouts for prompts whose interval is at least ``width`` wide, else 0, ``[n]``."""
    floors: IntArray = np.where(upper - lower >= width, floor, 0).astype(np.int64)
    return floors


def allocate(
    mean: FloatArray,
    effective_sample_size: FloatArray,
    constraints: Constraints,
    objective: Objective = Objective.EXPECTED,
    *,
    exact: bool = False,
) -> Allocation:
    """Allocate rollouts to prompts so that the objective is as large as possible (Eq. 9).

    The worth of each prompt is replaced by its least concave majorant. That relaxation is
    solved by taking the steepest increments first; its value bounds every allocation from
    above. What it gives away is a real allocation but for the last increment, which may be a
    part of a chord; that part is spent on the prompt of the chord or on others. A gap that is
    left is closed by dynamic programming when that is quick, or when the optimum is demanded.
    Where it is not closed, the paper's greedy allocation is returned if that is better.

    Args:
        mean: Values of the prompts, ``[n]``, in [0, 1]; n at least 1.
        effective_sample_size: What each value is worth, in rollouts, ``[n]``, positive.
        constraints: What to keep to.
        objective: What to maximise. ``PAPER`` is greedy, whatever ``exact`` says.
        exact: Return the optimum, however long that takes.

    Raises:
        AllocationError: The constraints contradict each other or are out of range, or the
            optimum would take too long to find.
    """
    grid = _grid(len(mean), constraints)
    worth = tables(objective, mean, effective_sample_size, grid.most)[:, :: grid.step]
    if constraints.skip:
        # Nothing or the minimum, and nothing in between.
        columns = np.arange(worth.shape[1])
        between = (columns > grid.start[:, None]) & (columns < grid.least[:, None])
        worth = np.where(between, -np.inf, worth)
    efficiency = majorant_slopes(worth, grid.start) / grid.costs[:, None]
    relaxed = _relaxed(worth, efficiency, grid)
    if objective is Objective.PAPER:
        return _allocation(worth, _greedy(worth, grid), grid, relaxed.bound)
    best = max((_filled(worth, one, grid) for one in relaxed.taken), key=lambda t: _worth(worth, t))
    if _same(_worth(worth, best), relaxed.bound):
        return _allocation(worth, best, grid, relaxed.bound)
    problem = Problem(worth, grid.costs, grid.budget, grid.start, relaxed.price)
    optimum = close_gap(problem, best, _THOROUGH if exact else _QUICK)
    if optimum is not None:
        best = _filled(worth, optimum, grid)
        return _allocation(worth, best, grid, _worth(worth, best))
    if exact:
        raise AllocationError("exact", "takes too long with so many prompts and so large a total")
    best = max((best, _greedy(worth, grid)), key=lambda taken: _worth(worth, taken))
    return _allocation(worth, best, grid, relaxed.bound)


@dataclass(frozen=True, slots=True, eq=False)
class _Grid:
    """IntArray of rollouts that are allowed: ``step`` times a column, from ``start`` on.

    ``start`` is 0 where a prompt may be skipped, otherwise ``least``, the lowest column with
    rollouts. ``costs`` are per column, ``[n]``, and ``budget`` is what may be spent on columns
    from 0 on.
    """

    step: int
    most: int
    start: IntArray
    least: IntArray
    costs: FloatArray
    budget: float
    rollout_costs: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class _Relaxed:
    """The relaxation: its bound, its price of one unit of the budget, and what it takes.

    ``taken`` is that without the chord that the budget cuts, and with the part of it that the
    budget pays for; what is left of the budget is not spent yet.
    """

    bound: float
    price: float
    taken: tuple[IntArray, ...]


def _grid(count: int, given: Constraints) -> _Grid:
    """Check the constraints and lay out the allowed counts."""
    step = given.multiple_of
    if step < 1:
        raise AllocationError("multiple_of", f"must be at least 1, not {step}")
    if given.minimum < 0:
        raise AllocationError("minimum", f"must not be negative, is {given.minimum}")
    if given.maximum < max(1, given.minimum):
        raise AllocationError("maximum", f"must be at least 1 and the minimum, is {given.maximum}")
    floors = np.zeros(count, np.int64) if given.floors is None else given.floors
    most = given.maximum // step
    least = -(-np.maximum(floors, given.minimum) // step)
    if (least > most).any():
        raise AllocationError(
            "multiple_of" if step > 1 else "uncertain_minimum",
            f"leaves no count of rollouts up to the maximum of {given.maximum}",
        )
    if count * (most * step + 1) > _MOST_ENTRIES:
        raise AllocationError("maximum", f"is too large for {count} prompts")
    start = np.where((floors == 0) & given.skip, 0, least)
    rollout_costs = np.ones(count) if given.token_costs is None else given.token_costs
    if not (np.isfinite(rollout_costs) & (rollout_costs > 0.0)).all():
        raise AllocationError("token_costs", "must be positive")
    lowest = float((rollout_costs * start).sum()) * step
    if given.total < lowest:
        # Costs may be so large that their sum is no number any more.
        least_total = math.ceil(lowest) if math.isfinite(lowest) else "more than can be"
        raise AllocationError("total", f"is {given.total}, but the minima alone take {least_total}")
    if given.token_costs is None:
        highest = count * most * step
        if given.total > highest:
            raise AllocationError("total", f"is {given.total}, but the maxima only take {highest}")
        if given.total % step:
            raise AllocationError("total", f"is {given.total}, no multiple of {step}")
    return _Grid(
        step=step,
        most=most * step,
        start=start,
        least=least,
        costs=rollout_costs * step,
        budget=float(given.total),
        rollout_costs=rollout_costs,
    )


def _relaxed(worth: FloatArray, efficiency: FloatArray, grid: _Grid) -> _Relaxed:
    """Take the steepest increments first until the budget cuts one."""
    count, width = efficiency.shape
    base = _worth(worth, grid.start)
    left = grid.budget - float(grid.costs @ grid.start)
    columns = np.arange(width)
    free = columns >= grid.start[:, None]
    flat = np.flatnonzero(free)
    order = flat[np.argsort(-efficiency.ravel()[flat], kind="stable")]
    item = order // width
    spent = np.cumsum(grid.costs[item])
    # Costs are sums of floats.
    fits = int(np.searchsorted(spent, left * (1.0 + 1e-12), side="right"))
    steepness = efficiency.ravel()[order]
    gained = float((steepness[:fits] * grid.costs[item[:fits]]).sum())
    taken = grid.start + np.bincount(item[:fits], minlength=count)
    if fits == len(order):
        return _Relaxed(base + gained, 0.0, (taken,))
    price = max(0.0, float(steepness[fits]))
    rest = left - (float(spent[fits - 1]) if fits else 0.0)
    bound = base + gained + price * max(0.0, rest)
    # Only the chord that is cut leaves the allocation between two vertices.
    cut = int(item[fits])
    vertex = taken.copy()
    level = efficiency[cut]
    while vertex[cut] > grid.start[cut] and level[vertex[cut] - 1] == level[taken[cut]]:
        vertex[cut] -= 1
    allowed = np.isfinite(worth[cut, taken[cut]])
    return _Relaxed(bound, price, (vertex, taken) if allowed else (vertex,))


def _greedy(worth: FloatArray, grid: _Grid) -> IntArray:
    """The paper's algorithm: one step at a time, always to the largest marginal utility.

    A prompt whose marginal utility rises is not left again until it falls below what made it
    be chosen. So its steps are taken in the order of the smallest marginal so far, and the
    whole run can be sorted at once.
    """
    count, width = worth.shape[0], worth.shape[1] - 1
    marginal = np.full((count, width), np.inf)
    columns = np.arange(width)
    # The first step of a prompt that may be skipped leads to its minimum.
    first = np.maximum(grid.start, grid.least - 1)
    usable = columns >= first[:, None]
    with np.errstate(invalid="ignore"):
        marginal[usable] = np.diff(worth, axis=1)[usable]
    jump = np.flatnonzero(first > grid.start)
    run = (grid.least - grid.start)[jump]
    rise = worth[jump, grid.least[jump]] - worth[jump, grid.start[jump]]
    marginal[jump, first[jump]] = rise / run
    key = np.minimum.accumulate(marginal / grid.costs[:, None], axis=1)
    flat = np.flatnonzero(usable)
    order = flat[np.argsort(-key.ravel()[flat], kind="stable")]
    item, column = order // width, order % width
    length = np.where(column == first[item], (column + 1 - grid.start[item]), 1)
    spent = np.cumsum(grid.costs[item] * length)
    left = grid.budget - float(grid.costs @ grid.start)
    fits = int(np.searchsorted(spent, left * (1.0 + 1e-12), side="right"))
    taken = grid.start.copy()
    np.add.at(taken, item[:fits], length[:fits])
    return _filled(worth, taken, grid)


def _filled(worth: FloatArray, taken: IntArray, grid: _Grid) -> IntArray:
    """Spend what is left of the budget, always on the largest gain per cost that fits."""
    taken = taken.copy()
    rows, last = np.arange(len(taken)), worth.shape[1] - 1
    left = grid.budget - float(grid.costs @ taken)
    while True:
        following = np.minimum(np.where(taken < grid.least, grid.least, taken + 1), last)
        price = grid.costs * (following - taken)
        possible = (taken < last) & (price <= left + 1e-9 * grid.budget)
        if not possible.any():
            return taken
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = (worth[rows, following] - worth[rows, taken]) / price
        chosen = int(np.argmax(np.where(possible, gain, -np.inf)))
        taken[chosen] = following[chosen]
        left -= float(price[chosen])


def _worth(worth: FloatArray, taken: IntArray) -> float:
    return float(worth[np.arange(len(taken)), taken].sum())


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _ROUNDING * max(abs(one), abs(other), 1e-300)


def _allocation(worth: FloatArray, taken: IntArray, grid: _Grid, bound: float) -> Allocation:
    rollouts = taken * grid.step
    reached = _worth(worth, taken)
    return Allocation(rollouts, reached, max(bound, reached), float(rollouts @ grid.rollout_costs))
