"""How old the outcomes of a context are."""

import numpy as np

from vzero_server.types import IntArray


def ages_of(steps: IntArray) -> IntArray:
    """How old outcomes of one policy are: how many of them are of later steps, ``[n]``.

    Outcomes of one step are of one moment, in whatever order they came, and the newest step is
    now, age 0. Those without a step are of one moment too, before all steps: the order in which
    a file is imported, or a router reports, says nothing of the policy.

    Args:
        steps: Step of each outcome, -1 where none was named, ``[n]``.
    """
    return len(steps) - np.searchsorted(np.sort(steps), steps, side="right").astype(np.int64)
