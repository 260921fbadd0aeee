"""Greedy allocation: the paper's algorithm, and spending what is left of a budget."""

import numpy as np

from vzero_server.decisions.count_grid import CountGrid
from vzero_server.types import FloatArray, IntArray


def greedy_columns(utilities: FloatArray, grid: CountGrid) -> IntArray:
    """The paper's allocation: one step at a time, always to the largest marginal utility.

    While the marginal utility of the chosen prompt rises, the algorithm stays with that prompt.
    So steps are taken in the order of the running minimum of the marginal utility, and one sort
    replaces the loop.

    Args:
        utilities: Utility of each column, ``[n, columns]``; -inf where not allowed.
        grid: Allowed counts.

    Returns:
        Column of each prompt, ``[n]``.
    """
    prompts, width = utilities.shape[0], utilities.shape[1] - 1
    marginal = np.full((prompts, width), np.inf)
    columns = np.arange(width)
    # The first step of a prompt that may be skipped leads to its minimum.
    first = np.maximum(grid.start, grid.least - 1)
    usable = columns >= first[:, None]
    with np.errstate(invalid="ignore"):
        marginal[usable] = np.diff(utilities, axis=1)[usable]
    jumping = np.flatnonzero(first > grid.start)
    run = (grid.least - grid.start)[jumping]
    rise = utilities[jumping, grid.least[jumping]] - utilities[jumping, grid.start[jumping]]
    marginal[jumping, first[jumping]] = rise / run
    key = np.minimum.accumulate(marginal / grid.costs[:, None], axis=1)
    flat = np.flatnonzero(usable)
    order = flat[np.argsort(-key.ravel()[flat], kind="stable")]
    prompt, column = order // width, order % width
    length = np.where(column == first[prompt], (column + 1 - grid.start[prompt]), 1)
    spent = np.cumsum(grid.costs[prompt] * length)
    fits = int(np.searchsorted(spent, grid.unspent(grid.start) * (1.0 + 1e-12), side="right"))
    taken = grid.start.copy()
    np.add.at(taken, prompt[:fits], length[:fits])
    return spend_rest(utilities, taken, grid)


def spend_rest(utilities: FloatArray, taken: IntArray, grid: CountGrid) -> IntArray:
    """Spend the rest of the budget, always on the largest gain per cost that it covers.

    Args:
        utilities: Utility of each column, ``[n, columns]``; -inf where not allowed.
        taken: Column of each prompt so far, ``[n]``.
        grid: Allowed counts.

    Returns:
        Column of each prompt, ``[n]``.
    """
    taken = taken.copy()
    rows, last = np.arange(len(taken)), utilities.shape[1] - 1
    unspent = grid.unspent(taken)
    while True:
        following = np.minimum(np.where(taken < grid.least, grid.least, taken + 1), last)
        cost = grid.costs * (following - taken)
        possible = (taken < last) & (cost <= unspent + 1e-9 * grid.budget)
        if not possible.any():
            return taken
        with np.errstate(invalid="ignore", divide="ignore"):
            gain = (utilities[rows, following] - utilities[rows, taken]) / cost
        chosen = int(np.argmax(np.where(possible, gain, -np.inf)))
        taken[chosen] = following[chosen]
        unspent -= float(cost[chosen])
