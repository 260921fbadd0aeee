"""Batches of prompts of similar length, which need little padding."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vzero_server.types import IntArray


def length_batches(lengths: Sequence[int], max_tokens: int) -> list[IntArray]:
    """Sort prompts by length and cut them into batches.

    Args:
        lengths: Number of tokens of each prompt, ``[n]``.
        max_tokens: Maximum number of tokens of a batch, padding included. A longer prompt gets
            a batch of its own.

    Returns:
        Positions of the prompts of each batch, ``[n]`` in total; the sort is stable.
    """
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    starts: list[int] = []
    for rank, position in enumerate(order.tolist()):
        # The longest prompt of a batch is its last.
        if not starts or lengths[position] * (rank + 1 - starts[-1]) > max_tokens:
            starts.append(rank)
    return [order[start:end] for start, end in pairwise([*starts, len(order)])]
