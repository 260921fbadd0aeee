"""Concave envelopes of many sequences at once."""

import numpy as np

from vzero_server.types import BoolArray, FloatArray, IntArray

# Rounding error of a table, relative to the largest entry of a row.
_ROUNDING = 1e-12


def envelope_slopes(utilities: FloatArray, start: IntArray) -> FloatArray:
    """Slopes of the concave envelope of each sequence, from its start column on.

    The concave envelope is the least concave function above a sequence. From one of its vertices,
    the steepest chord to a later point leads to the next vertex. A sequence that is convex first
    and concave afterwards, such as Eq. 10, needs one chord, followed by its own increments.

    Args:
        utilities: Sequences, ``[n, k + 1]``; -inf where a point is not allowed. The start and the
            last point of a row must be finite.
        start: First column of each sequence, ``[n]``.

    Returns:
        ``[n, k]``: slope of the envelope between columns j and j + 1, never increasing along a
        row; +inf before the start.
    """
    count, points = utilities.shape
    columns = np.arange(points - 1)
    with np.errstate(invalid="ignore"):
        slopes: FloatArray = np.diff(utilities, axis=1)
    slopes[columns < start[:, None]] = np.inf
    largest = np.maximum(np.abs(utilities[:, -1]), 1.0)
    rounding = _ROUNDING * largest
    vertex = start.copy()
    rows = np.flatnonzero(_rises(slopes, rounding))
    while rows.size:
        here = vertex[rows]
        run = np.arange(points) - here[:, None]
        rise = utilities[rows] - utilities[rows, here][:, None]
        chord = np.where(run > 0, rise / np.maximum(run, 1), -np.inf)
        # The longest of equally steep chords.
        ahead = points - 1 - np.argmax(chord[:, ::-1], axis=1)
        steepest = chord[np.arange(rows.size), ahead]
        under = (columns >= here[:, None]) & (columns < ahead[:, None])
        slopes[rows] = np.where(under, steepest[:, None], slopes[rows])
        vertex[rows] = ahead
        done = columns < ahead[:, None]
        rest = np.where(done, np.inf, slopes[rows])
        rows = rows[_rises(rest, rounding[rows])]
    # The remaining rounding errors must not make the slopes of a row increase.
    ordered: FloatArray = np.maximum.accumulate(slopes[:, ::-1], axis=1)[:, ::-1]
    assert ordered.shape == (count, points - 1)
    return ordered


def _rises(slopes: FloatArray, rounding: FloatArray) -> BoolArray:
    """Rows in which a slope is larger than the one before."""
    before, after = slopes[:, :-1], slopes[:, 1:]
    # A point that is not allowed has slopes -inf, +inf or nan around it.
    forbidden = ~np.isfinite(slopes) & (slopes != np.inf)
    rising = after > before + rounding[:, None]
    return np.asarray(rising.any(axis=1) | forbidden.any(axis=1))
