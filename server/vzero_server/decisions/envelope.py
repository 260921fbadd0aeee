"""Least concave majorants of many sequences at once."""

import numpy as np

from vzero_server.types import BoolArray, FloatArray, IntArray

# Rounding errors of tables, relative to the largest entry of a row.
_ROUNDING = 1e-12


def majorant_slopes(worth: FloatArray, start: IntArray) -> FloatArray:
    """Slopes of the least concave function above each sequence, from its start on.

    From a vertex of the majorant the steepest chord to a later point leads to the next one.
    Sequences that are convex first and concave afterwards, such as Eq. 10, need one chord;
    what follows are their own increments.

    Args:
        worth: ``[n, k + 1]``; -inf where a point must not be used, which neither the start
            nor the last of a row may be.
        start: Column each sequence starts at, ``[n]``.

    Returns:
        ``[n, k]``: slope of the majorant between columns j and j + 1, never increasing along
        a row; +inf before the start.
    """
    count, points = worth.shape
    columns = np.arange(points - 1)
    with np.errstate(invalid="ignore"):
        slopes: FloatArray = np.diff(worth, axis=1)
    slopes[columns < start[:, None]] = np.inf
    largest = np.maximum(np.abs(worth[:, -1]), 1.0)
    rounding = _ROUNDING * largest
    vertex = start.copy()
    rows = np.flatnonzero(_rises(slopes, rounding))
    while rows.size:
        here = vertex[rows]
        run = np.arange(points) - here[:, None]
        rise = worth[rows] - worth[rows, here][:, None]
        chord = np.where(run > 0, rise / np.maximum(run, 1), -np.inf)
        # Of equally steep chords the longest.
        ahead = points - 1 - np.argmax(chord[:, ::-1], axis=1)
        steepest = chord[np.arange(rows.size), ahead]
        under = (columns >= here[:, None]) & (columns < ahead[:, None])
        slopes[rows] = np.where(under, steepest[:, None], slopes[rows])
        vertex[rows] = ahead
        done = columns < ahead[:, None]
        rest = np.where(done, np.inf, slopes[rows])
        rows = rows[_rises(rest, rounding[rows])]
    # What rounding is left must not put a later step before an earlier one of its row.
    ordered: FloatArray = np.maximum.accumulate(slopes[:, ::-1], axis=1)[:, ::-1]
    assert ordered.shape == (count, points - 1)
    return ordered


def _rises(slopes: FloatArray, rounding: FloatArray) -> BoolArray:
    """Rows in which some slope is larger than the one before."""
    before, after = slopes[:, :-1], slopes[:, 1:]
    # A point that must not be used has slopes -inf, +inf or nan around it.
    forbidden = ~np.isfinite(slopes) & (slopes != np.inf)
    rising = after > before + rounding[:, None]
    return np.asarray(rising.any(axis=1) | forbidden.any(axis=1))
