"""Which rows of a window the in-context head reads, when it holds more than are affordable."""

from enum import StrEnum

import numpy as np

from vzero_server.engine.context.window import ContextWindow
from vzero_server.types import BoolArray, Float32Array, IntArray


class Selection(StrEnum):
    """Ways to choose rows."""

    RECENT = "recent"
    RANDOM = "random"
    BALANCED = "balanced"
    NEAREST = "nearest"


def select(
    window: ContextWindow,
    limit: int,
    how: Selection,
    queries: Float32Array | None = None,
) -> IntArray:
    """IntArray of at most ``limit`` rows of a window, in order, each once.

    The same window gives the same rows.

    Args:
        window: To choose from.
        limit: Most rows.
        how: RECENT takes the newest; RANDOM a sample; BALANCED as many successes as
            failures, the newest of each, as far as there are; NEAREST those that are
            nearest to any query.
        queries: Embeddings ``[m, d]``, for NEAREST.
    """
    count = len(window)
    if count <= limit:
        return np.arange(count)
    if how is Selection.RECENT:
        return np.arange(count - limit, count)
    if how is Selection.RANDOM:
        drawn = np.random.default_rng(window.version).choice(count, limit, replace=False)
        return np.sort(drawn)
    if how is Selection.BALANCED:
        return _balanced(window.rewards >= 0.5, limit)
    if queries is None:
        raise ValueError("the nearest rows depend on queries, and there are none")
    return _nearest(window, limit, queries)


def _balanced(success: BoolArray, limit: int) -> IntArray:
    good, poor = np.flatnonzero(success), np.flatnonzero(~success)
    half = min(len(good), max(limit // 2, limit - len(poor)))
    return np.sort(np.concatenate([good[len(good) - half :], poor[len(poor) - (limit - half) :]]))


def _nearest(window: ContextWindow, limit: int, queries: Float32Array) -> IntArray:
    """Round by round: the nearest row of every query, then the second nearest, and so on."""
    ranked = window.nearest(queries, limit).T.ravel()
    _, first = np.unique(ranked, return_index=True)
    return np.sort(ranked[np.sort(first)[:limit]])
