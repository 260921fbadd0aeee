"""From a good allocation to the optimum: max-plus dynamic programming with bounds.

With a price t of one unit of the budget, every count k of a prompt misses

    loss(k) = max_j (f(j) - t c j) - (f(k) - t c k) >= 0

of what the Lagrangian relaxation would get. The losses of all prompts, and t times what is not
spent, add up to exactly the distance of an allocation from the relaxation's bound. So an
allocation that is better than a known one has a sum of losses below the known gap: counts, and
states of the dynamic programme, that lose more are left out. What remains is exact.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vzero_server.types import FloatArray, IntArray

# Improvements below this share of the bound are rounding errors.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """An allocation to find.

    Attributes:
        worth: Of 0, 1, … k counts of each prompt, ``[n, k + 1]``; -inf where not allowed.
        costs: Of one count of each prompt, ``[n]``.
        budget: Most that all may cost.
        start: Fewest counts of each, ``[n]``.
        price: Lagrangian multiplier of the budget, at least 0; the better, the faster.
    """

    worth: FloatArray
    costs: FloatArray
    budget: float
    start: IntArray
    price: float


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """How the states after one prompt came about: which state before, and which count."""

    before: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]


def close_gap(problem: Problem, known: IntArray, most_states: int) -> IntArray | None:
    """The optimum, or None if that takes more than so many states.

    Args:
        problem: What to solve.
        known: An allocation that meets the constraints, ``[n]``; returned if it is optimal.
        most_states: Most states of the dynamic programme, of all stages together.
    """
    count, points = problem.worth.shape
    columns = np.arange(points)
    spending = problem.costs[:, None] * columns
    profit = np.where(
        columns >= problem.start[:, None], problem.worth - problem.price * spending, -np.inf
    )
    best = profit.max(axis=1)
    loss = best[:, None] - profit
    rows = np.arange(count)
    bound = float(best.sum()) + problem.price * problem.budget
    gap = bound - float(problem.worth[rows, known].sum())
    limit = gap - _ROUNDING * max(abs(bound), 1.0)
    allowed = loss < limit
    if not allowed.any(axis=1).all():
        return known
    # Few choices first: what is decided early prunes what comes after it.
    choices = allowed.sum(axis=1)
    order = np.argsort(choices, kind="stable")
    fixed, free = order[choices[order] == 1], order[choices[order] > 1]
    taken = known.copy()
    taken[fixed] = allowed[fixed].argmax(axis=1)
    spent = np.array([float(spending[fixed, taken[fixed]].sum())])
    lost = np.array([float(loss[fixed, taken[fixed]].sum())])
    cheapest = np.where(allowed, spending, np.inf).min(axis=1)
    dearest = np.where(allowed, spending, -np.inf).max(axis=1)
    room = problem.budget * (1.0 + 1e-12)
    stages: list[_Stage] = []
    states = 0
    for position, row in enumerate(free):
        later = free[position + 1 :]
        options = np.flatnonzero(allowed[row])
        states += len(spent) * len(options)
        if states > most_states:
            return None
        now = (spent[:, None] + spending[row, options]).ravel()
        missed = (lost[:, None] + loss[row, options]).ravel()
        unspent = np.maximum(problem.budget - now - float(dearest[later].sum()), 0.0)
        possible = now + float(cheapest[later].sum()) <= room
        kept = np.flatnonzero(possible & (missed + problem.price * unspent < limit))
        kept = kept[_undominated(now[kept], missed[kept], problem.price)]
        if not kept.size:
            return known
        before, choice = np.divmod(kept, len(options))
        stages.append(_Stage(before.astype(np.int32), options[choice].astype(np.int32)))
        spent, lost = now[kept], missed[kept]
    if spent[0] > room:
        return known
    missing = lost + problem.price * np.maximum(problem.budget - spent, 0.0)
    state = int(np.argmin(missing))
    if missing[state] >= limit:
        return known
    for row, stage in zip(free[::-1], reversed(stages), strict=True):
        taken[row] = stage.count[state]
        state = int(stage.before[state])
    return taken


def _undominated(spent: FloatArray, lost: FloatArray, price: float) -> IntArray:
    """Positions of states that are worth more than all that spend as little or less."""
    order = np.lexsort((lost, spent))
    worth = price * spent[order] - lost[order]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(worth)[:-1]])
    undominated: IntArray = order[worth > before]
    return undominated
