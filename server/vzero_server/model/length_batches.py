"""Prompts of like length together, so that little of a batch is padding."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vzero_server.types import IntArray


def length_batches(lengths: Sequence[int], most: int) -> list[IntArray]:
    """Cut prompts, sorted by length, into batches.

    Args:
        lengths: Tokens of each prompt, ``[n]``.
        most: Tokens of a batch, with padding; one prompt may have more.

    Returns:
        Positions of the prompts of each batch, ``[n]`` in all; those of equal length in order.
    """
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    starts: list[int] = []
    for place, position in enumerate(order.tolist()):
        # The longest of a batch is its last.
        if not starts or lengths[position] * (place + 1 - starts[-1]) > most:
            starts.append(place)
    return [order[start:end] for start, end in pairwise([*starts, len(order)])]
