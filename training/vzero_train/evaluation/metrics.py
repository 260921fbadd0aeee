"""How good values are (section 5.4 of the paper)."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Array = npt.NDArray[np.float64]

# An avg@n of at least this counts as a success.
SUCCESS = 0.5


def auc(rewards: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Intra-context AUC of one context: how often a success is valued above a failure.

    Args:
        rewards: Observed avg@n, ``[m]``, in [0, 1]; a success is at least ½.
        values: Estimates, ``[m]``. Equal ones count half.

    Returns:
        In [0, 1]; NaN when all are successes, or none.
    """
    success = np.asarray(rewards) >= SUCCESS
    good, poor = int(success.sum()), int((~success).sum())
    if not good or not poor:
        return float("nan")
    ranks = rankdata(np.asarray(values, np.float64))
    return float((ranks[success].sum() - good * (good + 1) / 2) / (good * poor))


def mse(rewards: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Calibration MSE: mean squared difference of values and observed avg@n."""
    return float(np.mean(np.square(np.asarray(rewards, np.float64) - np.asarray(values))))
