"""Values of a fleet read jointly: what sets its policies apart counts for what it proved worth.

A policy's logit on a prompt is its level, a part that all policies of the fleet share there, and a
part of its own. Two policies that are much alike differ on one prompt mostly by the noise of two
regressions, and which is the better one is a matter of kinds of prompts more than of single ones.
So with the own part a_i(x), and b_i(x), how policy i did on prompts of the kind of x beyond its
level and beyond the fleet, the logit becomes

    level_i + shared(x) + w a_i(x) + u b_i(x),      w, u in [0, 1].

The two weights are the fleet's. They are fitted to what its policies earned on prompts that at
least two of them know, each prompt left out of a_i and b_i, held at w = 1 and u = 0, where
everything stays as it is: that is what a fleet gets that shares no prompts. Kinds of prompts are
the cells of k-means, of several numbers of cells, over which b is averaged.

Shapes: N prompts the fleet knows, P policies, d columns of an embedding, n prompts asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from vzero_server.types import Float32Array, FloatArray, IntArray
from vzero_server.values.kmeans import Cells

CELLS = (4, 8, 16)
"""Numbers of cells."""

# Prompts per cell: with fewer, that many cells are not made.
_PER_CELL = 8
# Fewest prompts that two policies know: with fewer, nothing is fitted.
_FEWEST = 16
# Rows by which a policy's results in a cell are drawn to what the fleet's let expect.
_DRAW = 4.0
# How firmly the weights are held, in squared logits.
_HOLD = 3.0
# Success rates at the very edge have no logit.
_EDGE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """How the policies of one fleet are read together.

    Attributes:
        own: w, in [0, 1].
        kinds: u, in [0, 1].
        cells: Of each number of cells; none where too few prompts are shared.
        parts: b of each policy in each cell, ``[cells, P]`` for each of ``cells``.
    """

    own: float
    kinds: float
    cells: tuple[Cells, ...]
    parts: tuple[FloatArray, ...]

    @classmethod
    def fit(
        cls,
        left_out: FloatArray,
        levels: FloatArray,
        rewards: FloatArray,
        embeddings: Float32Array,
        counts: Sequence[int] = CELLS,
    ) -> Self:
        """Fit to what the fleet's policies earned.

        Args:
            left_out: Logits of prompts, each left out of what its policy rests on, ``[N, P]``;
                NaN where a policy does not know a prompt.
            levels: Logits of the policies' mean rewards, ``[P]``.
            rewards: In [0, 1], ``[N, P]``; NaN as in ``left_out``.
            embeddings: Of the prompts, ``[N, d]``; directions count.
            counts: Numbers of cells.
        """
        known = np.isfinite(left_out) & np.isfinite(rewards)
        several = known.sum(1) >= 2
        if several.sum() < _FEWEST:
            return cls(1.0, 0.0, (), ())
        known, embeddings = known[several], embeddings[several]
        rewards = np.where(known, rewards[several], 0.0)
        beyond = np.where(known, left_out[several] - levels, 0.0)
        shared = beyond.sum(1, keepdims=True) / known.sum(1, keepdims=True)
        cells = tuple(
            Cells.of(embeddings, count) for count in counts if count * _PER_CELL <= len(known)
        )
        without = np.zeros(known.shape)
        parts = []
        for one in cells:
            place = one.nearest(embeddings)
            sums, rows = _sums(place, one, rewards), _sums(place, one, known)
            parts.append(_part(sums, rows, levels))
            without += _part(sums[place] - rewards, rows[place] - known, levels) / len(cells)
        columns = np.stack([(beyond - shared)[known], without[known]])
        own, kinds = _weights(columns, (levels + shared)[known], rewards[known], bool(cells))
        return cls(own, kinds, cells, tuple(parts))

    def logits(
        self, logits: FloatArray, levels: FloatArray, embeddings: Float32Array
    ) -> FloatArray:
        """Logits of prompts under all policies, ``[n, P]``.

        Args:
            logits: Of each policy by itself, ``[n, P]``.
            levels: Logits of the policies' mean rewards, ``[P]``.
            embeddings: Of the prompts, ``[n, d]``.
        """
        beyond = logits - levels
        shared = beyond.mean(1, keepdims=True)
        joint: FloatArray = levels + shared + self.own * (beyond - shared)
        for one, parts in zip(self.cells, self.parts, strict=True):
            joint += self.kinds / len(self.cells) * parts[one.nearest(embeddings)]
        return joint


def _sums(place: IntArray, cells: Cells, columns: npt.NDArray[np.generic]) -> FloatArray:
    """Sums of rows by cell, ``[cells, P]``."""
    sums = np.zeros((len(cells), columns.shape[1]))
    np.add.at(sums, place, columns)
    return sums


def _part(sums: FloatArray, rows: FloatArray, levels: FloatArray) -> FloatArray:
    """b, ``[..., P]``: how each policy did beyond its level and beyond the fleet.

    Args:
        sums: Of the rewards of each policy on prompts of a kind, ``[..., P]``.
        rows: How many there are, ``[..., P]``; where there is none, b is 0.
        levels: Logits of the policies' mean rewards, ``[P]``.
    """
    level = expit(levels)
    drawn = _logit((sums + _DRAW * level) / (rows + _DRAW)) - _logit(level)
    total = rows.sum(-1, keepdims=True)
    fleet = (rows * drawn).sum(-1, keepdims=True) / np.maximum(total, 1.0)
    expected = _logit(level) + fleet
    part: FloatArray = _logit((sums + _DRAW * expit(expected)) / (rows + _DRAW)) - expected
    # What all have in common is not theirs.
    part = part - (rows * part).sum(-1, keepdims=True) / np.maximum(total, 1.0)
    return np.where(rows > 0, part, 0.0)


def _weights(
    columns: FloatArray, base: FloatArray, rewards: FloatArray, kinds: bool
) -> tuple[float, float]:
    """Logistic regression of rewards on two columns, ``[2, m]``: w and u, within bounds."""
    centre = np.array([1.0, 0.0])

    def loss_and_gradient(weights: FloatArray) -> tuple[float, FloatArray]:
        scores = base + weights @ columns
        held = weights - centre
        loss = (np.logaddexp(0.0, scores) - rewards * scores).sum() + 0.5 * _HOLD * held @ held
        return float(loss), columns @ (expit(scores) - rewards) + _HOLD * held

    bounds = [(0.0, 1.0), (0.0, float(kinds))]
    found = minimize(loss_and_gradient, centre, jac=True, method="L-BFGS-B", bounds=bounds)
    own, other = found.x.clip(0.0, 1.0).tolist()
    return own, other


def _logit(rates: FloatArray) -> FloatArray:
    found: FloatArray = logit(rates.clip(_EDGE, 1.0 - _EDGE))
    return found
