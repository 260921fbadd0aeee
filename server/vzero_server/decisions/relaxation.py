"""The concave relaxation of an allocation, solved by its steepest increments."""

from dataclasses import dataclass

import numpy as np

from vzero_server.decisions.count_grid import CountGrid
from vzero_server.decisions.utility import total_utility
from vzero_server.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Relaxation:
    """Solution of the relaxed problem.

    Attributes:
        bound: Its utility, an upper bound on that of every allocation.
        price: Utility of one more unit of the budget (Lagrange multiplier), at least 0.
        candidates: Allowed allocations from rounding the solution down, each in columns,
            ``[n]``: without the chord that the budget cuts, and, if that is allowed, with the
            part of it that the budget covers. They may leave some of the budget unspent.
    """

    bound: float
    price: float
    candidates: tuple[IntArray, ...]


def relax(utilities: FloatArray, efficiency: FloatArray, grid: CountGrid) -> Relaxation:
    """Solve the relaxation: take the steepest increments first until the budget cuts one.

    Args:
        utilities: Utility of each column, ``[n, columns]``; -inf where not allowed.
        efficiency: Slopes of the concave envelope per unit of the budget, ``[n, columns - 1]``.
        grid: Allowed counts.
    """
    prompts, width = efficiency.shape
    base = total_utility(utilities, grid.start)
    unspent = grid.unspent(grid.start)
    columns = np.arange(width)
    usable = np.flatnonzero(columns >= grid.start[:, None])
    order = usable[np.argsort(-efficiency.ravel()[usable], kind="stable")]
    prompt = order // width
    spent = np.cumsum(grid.costs[prompt])
    # Sums of floats: allow for rounding.
    fits = int(np.searchsorted(spent, unspent * (1.0 + 1e-12), side="right"))
    slopes = efficiency.ravel()[order]
    gain = float((slopes[:fits] * grid.costs[prompt[:fits]]).sum())
    taken = grid.start + np.bincount(prompt[:fits], minlength=prompts)
    if fits == len(order):
        return Relaxation(base + gain, 0.0, (taken,))
    price = max(0.0, float(slopes[fits]))
    rest = unspent - (float(spent[fits - 1]) if fits else 0.0)
    bound = base + gain + price * max(0.0, rest)
    # Only for the prompt of the chord that is cut does the solution lie between two vertices.
    cut = int(prompt[fits])
    vertex = taken.copy()
    level = efficiency[cut]
    while vertex[cut] > grid.start[cut] and level[vertex[cut] - 1] == level[taken[cut]]:
        vertex[cut] -= 1
    allowed = np.isfinite(utilities[cut, taken[cut]])
    return Relaxation(bound, price, (vertex, taken) if allowed else (vertex,))
