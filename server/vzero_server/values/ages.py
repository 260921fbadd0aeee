"""Ages of the outcomes of a context, counted in outcomes of later steps."""

import numpy as np

from vzero_server.types import IntArray


def ages_of(steps: IntArray) -> IntArray:
    """Return the age of each outcome of one policy: the number of outcomes of later steps, ``[n]``.

    Outcomes of one step have the same age, in whatever order they arrived; the newest step has age
    0. Outcomes without a step share one age too, older than all steps: the order in which a file
    is imported, or in which a router reports, carries no information on the policy.

    Args:
        steps: Step of each outcome, -1 where none was named, ``[n]``.
    """
    return len(steps) - np.searchsorted(np.sort(steps), steps, side="right").astype(np.int64)
