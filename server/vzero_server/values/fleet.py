"""Fleet calibration: shrinks differences between policies as far as shared prompts suggest.

The logit of a policy on a prompt is the sum of its level, a part that all policies of the fleet
share on this prompt, and a deviation of its own. Two similar policies differ on a single prompt
mostly by the noise of two regressions; which one is better depends on clusters of prompts more
than on single prompts. Let a_i(x) be the deviation of policy i, and b_i(x) how policy i did on the
cluster of x beyond its level and beyond the fleet. The calibrated logit is

    level_i + shared(x) + w a_i(x) + u b_i(x),      w, u in [0, 1].

The fleet has one w and one u. They are fitted to the rewards on prompts that at least two policies
know, each prompt left out of a_i and b_i, and regularised towards w = 1 and u = 0, which change
nothing: a fleet that shares no prompts keeps its values. Clusters come from k-means with several
numbers of clusters, over which b is averaged.

Shapes: N prompts that the fleet knows, P policies, d columns of an embedding, n prompts to predict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from vzero_server.types import Float32Array, FloatArray, IntArray
from vzero_server.values.beta import logits as finite_logits
from vzero_server.values.kmeans import KMeans

CLUSTER_COUNTS = (4, 8, 16)
"""Numbers of clusters that the cluster part is averaged over."""

# Fewest prompts per cluster; with fewer, that number of clusters is left out.
_PROMPTS_PER_CLUSTER = 8
# Fewest prompts that two policies share; with fewer, nothing is fitted.
_FEWEST_SHARED = 16
# Rows by which a policy's results in a cluster are shrunk towards what the fleet's suggest.
_SHRINKAGE_ROWS = 4.0
# Regularisation of the weights, in squared logits.
_REGULARISATION = 3.0
# Success rates of clusters are clipped here: few rows say little about extreme rates.
_LEAST_RATE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class FleetCalibration:
    """How the values of one fleet are calibrated.

    Attributes:
        deviation_weight: w, in [0, 1].
        cluster_weight: u, in [0, 1].
        partitions: One for each number of clusters; empty if too few prompts are shared.
        cluster_parts: b of each policy in each cluster, ``[clusters, P]``, by partition.
    """

    deviation_weight: float = 1.0
    cluster_weight: float = 0.0
    partitions: tuple[KMeans, ...] = ()
    cluster_parts: tuple[FloatArray, ...] = ()

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every logit as it is."""
        return (self.deviation_weight, self.cluster_weight) == (1.0, 0.0)

    @classmethod
    def fit(
        cls,
        loo_logits: FloatArray,
        levels: FloatArray,
        rewards: FloatArray,
        embeddings: Float32Array,
        cluster_counts: Sequence[int] = CLUSTER_COUNTS,
    ) -> Self:
        """Fit to the rewards of the fleet's policies.

        Args:
            loo_logits: Leave-one-out logits of the prompts under each policy, ``[N, P]``; NaN
                where a policy does not know a prompt.
            levels: Logits of the policies' mean rewards, ``[P]``.
            rewards: In [0, 1], ``[N, P]``; NaN as in ``loo_logits``.
            embeddings: Of the prompts, ``[N, d]``; only their directions matter.
            cluster_counts: Numbers of clusters.
        """
        known = np.isfinite(loo_logits) & np.isfinite(rewards)
        shared_prompts = known.sum(1) >= 2
        if shared_prompts.sum() < _FEWEST_SHARED:
            return cls()
        known, embeddings = known[shared_prompts], embeddings[shared_prompts]
        rewards = np.where(known, rewards[shared_prompts], 0.0)
        beyond_level = np.where(known, loo_logits[shared_prompts] - levels, 0.0)
        shared = beyond_level.sum(1, keepdims=True) / known.sum(1, keepdims=True)
        partitions = tuple(
            KMeans.fit(embeddings, count)
            for count in cluster_counts
            if count * _PROMPTS_PER_CLUSTER <= len(known)
        )
        loo_cluster_part = np.zeros(known.shape)
        cluster_parts = []
        for partition in partitions:
            clusters = partition.nearest(embeddings)
            sums = _cluster_sums(clusters, partition, rewards)
            rows = _cluster_sums(clusters, partition, known)
            cluster_parts.append(_cluster_part(sums, rows, levels))
            loo_cluster_part += _cluster_part(
                sums[clusters] - rewards, rows[clusters] - known, levels
            ) / len(partitions)
        columns = np.stack([(beyond_level - shared)[known], loo_cluster_part[known]])
        deviation_weight, cluster_weight = _fit_weights(
            columns, (levels + shared)[known], rewards[known], clustered=bool(partitions)
        )
        return cls(deviation_weight, cluster_weight, partitions, tuple(cluster_parts))

    def logits(
        self, logits: FloatArray, levels: FloatArray, embeddings: Float32Array
    ) -> FloatArray:
        """Return calibrated logits of prompts under all policies, ``[n, P]``.

        Args:
            logits: Under each policy by itself, ``[n, P]``.
            levels: Logits of the policies' mean rewards, ``[P]``.
            embeddings: Of the prompts, ``[n, d]``.
        """
        beyond_level = logits - levels
        shared = beyond_level.mean(1, keepdims=True)
        deviations = beyond_level - shared
        calibrated: FloatArray = levels + shared + self.deviation_weight * deviations
        for partition, parts in zip(self.partitions, self.cluster_parts, strict=True):
            weight = self.cluster_weight / len(self.partitions)
            calibrated += weight * parts[partition.nearest(embeddings)]
        return calibrated


def _cluster_sums(
    clusters: IntArray, partition: KMeans, columns: npt.NDArray[np.generic]
) -> FloatArray:
    """Sums of rows by cluster, ``[clusters, P]``."""
    sums = np.zeros((len(partition), columns.shape[1]))
    np.add.at(sums, clusters, columns)
    return sums


def _cluster_part(sums: FloatArray, rows: FloatArray, levels: FloatArray) -> FloatArray:
    """b, ``[..., P]``: how each policy did on a cluster, beyond its level and beyond the fleet.

    Args:
        sums: Of the rewards of each policy on prompts of the cluster, ``[..., P]``.
        rows: Number of these rewards, ``[..., P]``; where it is 0, b is 0.
        levels: Logits of the policies' mean rewards, ``[P]``.
    """
    level = expit(levels)
    level_logits = finite_logits(level, _LEAST_RATE)

    def shrunk_logits(target: FloatArray) -> FloatArray:
        rates = (sums + _SHRINKAGE_ROWS * target) / (rows + _SHRINKAGE_ROWS)
        return finite_logits(rates, _LEAST_RATE)

    total = rows.sum(-1, keepdims=True)
    beyond_level = shrunk_logits(level) - level_logits
    fleet = (rows * beyond_level).sum(-1, keepdims=True) / np.maximum(total, 1.0)
    expected = level_logits + fleet
    part = shrunk_logits(expit(expected)) - expected
    # What all policies have in common belongs to the fleet, not to one of them.
    part = part - (rows * part).sum(-1, keepdims=True) / np.maximum(total, 1.0)
    return np.where(rows > 0, part, 0.0)


def _fit_weights(
    columns: FloatArray, base: FloatArray, rewards: FloatArray, *, clustered: bool
) -> tuple[float, float]:
    """Logistic regression of rewards on two columns, ``[2, m]``: w and u, within bounds."""
    centre = np.array([1.0, 0.0])

    def loss_and_gradient(weights: FloatArray) -> tuple[float, FloatArray]:
        scores = base + weights @ columns
        change = weights - centre
        penalty = 0.5 * _REGULARISATION * change @ change
        loss = (np.logaddexp(0.0, scores) - rewards * scores).sum() + penalty
        return float(loss), columns @ (expit(scores) - rewards) + _REGULARISATION * change

    bounds = [(0.0, 1.0), (0.0, float(clustered))]
    fit = minimize(loss_and_gradient, centre, jac=True, method="L-BFGS-B", bounds=bounds)
    deviation_weight, cluster_weight = fit.x.clip(0.0, 1.0).tolist()
    return deviation_weight, cluster_weight
