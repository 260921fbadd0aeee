"""Whether values are right on average, and what their errors go with (Appendix B)."""

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

Floats = npt.NDArray[np.floating]


def ece(rewards: Floats, values: Floats, bins: int = 10) -> float:
    """Expected calibration error over bins that hold equally many values, in [0, 1]."""
    order = np.argsort(values, kind="stable")
    gaps = [
        len(part) * abs(float(np.mean(np.asarray(values)[part] - np.asarray(rewards)[part])))
        for part in np.array_split(order, bins)
        if len(part)
    ]
    return float(sum(gaps) / max(len(order), 1))


def residual_correlation(residuals: Floats, quantity: Floats) -> float:
    """Spearman correlation of errors with something known (App. B); 0 where one is constant."""
    if np.ptp(residuals) == 0.0 or np.ptp(quantity) == 0.0:
        return 0.0
    return float(spearmanr(residuals, quantity).statistic)
