"""Optimal allocations by max-plus dynamic programming with bounds.

Let t be the price of one unit of the budget. Compared with the Lagrangian relaxation, a count k
of a prompt with utility f and cost c loses

    loss(k) = max_j (f(j) - t c j) - (f(k) - t c k) >= 0.

The losses of all prompts, plus t times the unspent budget, add up to exactly the distance between
an allocation and the bound of the relaxation. An allocation that is better than a known one
therefore has a sum of losses below the known gap. Counts and states of the dynamic programme that
lose more are pruned; the result is exact.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vzero_server.types import FloatArray, IntArray

# Improvements below this share of the bound are rounding errors.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """An allocation problem.

    Attributes:
        utilities: Utility of 0, 1, … k counts of each prompt, ``[n, k + 1]``; -inf where not
            allowed.
        costs: Cost of one count of each prompt, ``[n]``.
        budget: Maximum cost of all counts.
        start: Minimum count of each prompt, ``[n]``.
        price: Lagrange multiplier of the budget, at least 0. The closer it is to the optimal
            one, the faster the search.
    """

    utilities: FloatArray
    costs: FloatArray
    budget: float
    start: IntArray
    price: float


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """Predecessor and count of each state after one prompt, to trace a solution back."""

    predecessor: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]


def find_optimum(problem: Problem, incumbent: IntArray, max_states: int) -> IntArray | None:
    """Find an optimal allocation; None if that takes more than ``max_states`` states.

    Args:
        problem: The problem.
        incumbent: An allocation that meets the constraints, ``[n]``; returned if it is optimal.
        max_states: Maximum states of the dynamic programme, over all stages.
    """
    prompts, points = problem.utilities.shape
    columns = np.arange(points)
    spending = problem.costs[:, None] * columns
    profit = np.where(
        columns >= problem.start[:, None], problem.utilities - problem.price * spending, -np.inf
    )
    best = profit.max(axis=1)
    loss = best[:, None] - profit
    rows = np.arange(prompts)
    bound = float(best.sum()) + problem.price * problem.budget
    gap = bound - float(problem.utilities[rows, incumbent].sum())
    limit = gap - _ROUNDING * max(abs(bound), 1.0)
    allowed = loss < limit
    if not allowed.any(axis=1).all():
        return incumbent
    # Prompts with few choices first: early decisions prune later stages.
    choices = allowed.sum(axis=1)
    order = np.argsort(choices, kind="stable")
    fixed, free = order[choices[order] == 1], order[choices[order] > 1]
    counts = incumbent.copy()
    counts[fixed] = allowed[fixed].argmax(axis=1)
    spent = np.array([float(spending[fixed, counts[fixed]].sum())])
    lost = np.array([float(loss[fixed, counts[fixed]].sum())])
    lowest_cost = np.where(allowed, spending, np.inf).min(axis=1)
    highest_cost = np.where(allowed, spending, -np.inf).max(axis=1)
    affordable = problem.budget * (1.0 + 1e-12)
    stages: list[_Stage] = []
    states = 0
    for position, row in enumerate(free):
        later = free[position + 1 :]
        options = np.flatnonzero(allowed[row])
        states += len(spent) * len(options)
        if states > max_states:
            return None
        new_spent = (spent[:, None] + spending[row, options]).ravel()
        new_lost = (lost[:, None] + loss[row, options]).ravel()
        unspent = np.maximum(problem.budget - new_spent - float(highest_cost[later].sum()), 0.0)
        possible = new_spent + float(lowest_cost[later].sum()) <= affordable
        kept = np.flatnonzero(possible & (new_lost + problem.price * unspent < limit))
        kept = kept[_undominated(new_spent[kept], new_lost[kept], problem.price)]
        if not kept.size:
            return incumbent
        predecessor, choice = np.divmod(kept, len(options))
        stages.append(_Stage(predecessor.astype(np.int32), options[choice].astype(np.int32)))
        spent, lost = new_spent[kept], new_lost[kept]
    if spent[0] > affordable:
        return incumbent
    distance = lost + problem.price * np.maximum(problem.budget - spent, 0.0)
    state = int(np.argmin(distance))
    if distance[state] >= limit:
        return incumbent
    for row, stage in zip(free[::-1], reversed(stages), strict=True):
        counts[row] = stage.count[state]
        state = int(stage.predecessor[state])
    return counts


def _undominated(spent: FloatArray, lost: FloatArray, price: float) -> IntArray:
    """Positions of the states that are better than all that spend as much or less."""
    order = np.lexsort((lost, spent))
    merit = price * spent[order] - lost[order]
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(merit)[:-1]])
    undominated: IntArray = order[merit > best_before]
    return undominated
