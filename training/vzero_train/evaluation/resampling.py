"""Bootstrap over clusters, the same draws for every estimator."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vzero_server.types import FloatArray, IntArray
from vzero_train.evaluation.metrics import auc, weighted_auc

# More clusters than this are thrown together at random, which keeps the intervals honest and
# the memory bounded.
_MOST_CLUSTERS = 1000


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, replicates: FloatArray) -> "Interval":
        """From the figure on the whole sample and, after it, on every resample."""
        resampled = replicates[1:][np.isfinite(replicates[1:])]
        low, high = np.quantile(resampled, (0.025, 0.975)) if len(resampled) else (np.nan, np.nan)
        return cls(float(replicates[0]), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.estimate:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Resampling:
    """Resamples of rows, drawn cluster by cluster.

    Every figure comes as *replicates* ``[1 + resamples]``: on the whole sample, then on each
    resample. The draws are fixed, so differences of replicates are paired.
    """

    def __init__(self, clusters: npt.ArrayLike, *, resamples: int = 2000, seed: int = 0) -> None:
        """Draw.

        Args:
            clusters: Which cluster each row belongs to, ``[rows]``.
            resamples: How many.
            seed: Of the draws.
        """
        rng = np.random.default_rng(seed)
        names, cluster = np.unique(np.asarray(clusters), return_inverse=True)
        count = len(names)
        if count > _MOST_CLUSTERS:
            cluster = (rng.permutation(count) % _MOST_CLUSTERS)[cluster]
            count = _MOST_CLUSTERS
        drawn = np.zeros((resamples, 0), dtype=np.int64)
        if count:
            drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=resamples)
        self._cluster = cluster
        self._draws = np.concatenate([np.ones((1, count)), drawn.astype(np.float64)])

    def total(self, values: FloatArray) -> FloatArray:
        """Replicates of the sum of ``values``, ``[rows]`` to ``[1 + resamples]``."""
        size = self._draws.shape[1]
        sums: FloatArray = self._draws @ np.bincount(self._cluster, values, minlength=size)
        return sums

    def mean(self, values: FloatArray) -> FloatArray:
        """Replicates of the mean of ``values``, ``[rows]``."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means: FloatArray = self.total(values) / self.total(np.ones(len(values)))
        return means

    def mean_auc(self, rewards: FloatArray, values: FloatArray, contexts: IntArray) -> FloatArray:
        """Replicates of the intra-context AUC, mean over contexts weighted by queries.

        Args:
            rewards: ``[rows]``.
            values: ``[rows]``.
            contexts: Which context a row was asked of, ``[rows]``, in ascending order.
        """
        total, weight = np.zeros(len(self._draws)), np.zeros(len(self._draws))
        for rows in np.split(np.arange(len(contexts)), np.flatnonzero(np.diff(contexts)) + 1):
            found = self._auc(rewards[rows], values[rows], self._cluster[rows])
            weights = self._draws[:, self._cluster[rows]].sum(1) * np.isfinite(found)
            total += weights * np.nan_to_num(found)
            weight += weights
        with np.errstate(invalid="ignore"):
            means: FloatArray = total / weight
        return means

    def _auc(self, rewards: FloatArray, values: FloatArray, cluster: IntArray) -> FloatArray:
        if len(cluster) == 0 or (cluster == cluster[0]).all():
            # Drawn as a whole, or not at all.
            return np.full(len(self._draws), auc(rewards, values))
        return weighted_auc(rewards, values, self._draws[:, cluster])

    def calibration_error(
        self, rewards: FloatArray, values: FloatArray, bins: int = 10
    ) -> FloatArray:
        """Replicates of the expected calibration error; the bins are those of all rows."""
        ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        bin_of = ranks * bins // max(len(values), 1)
        gaps = [
            np.abs(self.total(np.where(bin_of == number, values - rewards, 0.0)))
            for number in range(bins)
        ]
        errors: FloatArray = np.sum(gaps, axis=0) / self.total(np.ones(len(values)))
        return errors

    def correlation(self, left: FloatArray, right: FloatArray) -> FloatArray:
        """Replicates of the linear correlation of ``[rows]``; zero where one is constant.

        Of ranks it is Spearman's, up to the ranks being those of all rows.
        """
        count = self.total(np.ones(len(left)))
        left, right = left - left.mean(), right - right.mean()
        means = self.total(left) / count, self.total(right) / count
        both = self.total(left * right) / count - means[0] * means[1]
        spread = (self.total(left**2) / count - means[0] ** 2) * (
            self.total(right**2) / count - means[1] ** 2
        )
        scale = np.sqrt(spread.clip(0.0))
        found: FloatArray = np.where(scale > 1e-12, both / np.where(scale > 1e-12, scale, 1.0), 0.0)
        return found
