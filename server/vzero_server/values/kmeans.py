"""Spherical k-means: clusters of prompts by the direction of their embeddings."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from vzero_server.types import Float32Array, FloatArray, IntArray

# Most iterations; fitting stops earlier once no prompt changes its cluster.
_ROUNDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class KMeans:
    """A partition of prompts by their nearest cluster centre.

    Attributes:
        centres: Of the clusters, on embeddings scaled to length 1, ``[clusters, d]``.
    """

    centres: Float32Array

    def __len__(self) -> int:
        return len(self.centres)

    @classmethod
    def fit(cls, embeddings: Float32Array, count: int, seed: int = 0) -> Self:
        """Fit clusters to prompts.

        The first centres are prompts, each drawn with a probability in proportion to its squared
        distance from the centres drawn before (k-means++). The same embeddings give the same
        clusters.

        Args:
            embeddings: ``[N, d]``, N at least 1.
            count: Number of clusters; fewer are made if fewer prompts are distinct.
            seed: Of the draws.
        """
        embeddings = _unit(embeddings)
        rng = np.random.default_rng(seed)
        centres = embeddings[[int(rng.integers(len(embeddings)))]]
        distances = _distances(embeddings, centres)[:, 0]
        while len(centres) < count and distances.max() > 1e-6:
            drawn = int(rng.choice(len(distances), p=distances / distances.sum()))
            centres = np.concatenate([centres, embeddings[[drawn]]])
            distances = np.minimum(distances, _distances(embeddings, centres[-1:])[:, 0])
        clusters = np.full(len(embeddings), -1)
        for _ in range(_ROUNDS):
            nearest = _distances(embeddings, centres).argmin(1)
            if (nearest == clusters).all():
                break
            clusters = nearest
            members = np.zeros((len(centres), len(embeddings)), np.float32)
            members[clusters, np.arange(len(clusters))] = 1.0
            sizes = members.sum(1, keepdims=True)
            # The centre of an empty cluster stays where it is.
            centres = np.where(sizes > 0, members @ embeddings / np.maximum(sizes, 1), centres)
        return cls(centres.astype(np.float32))

    def nearest(self, embeddings: Float32Array) -> IntArray:
        """Return the cluster of each prompt, ``[n]``, given embeddings ``[n, d]``."""
        nearest: IntArray = _distances(_unit(embeddings), self.centres).argmin(1)
        return nearest


def _unit(embeddings: Float32Array) -> Float32Array:
    scaled: Float32Array = embeddings / (np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-9)
    return scaled


def _distances(embeddings: Float32Array, centres: Float32Array) -> FloatArray:
    """Squared distances, ``[n, clusters]``."""
    squares = np.square(embeddings, dtype=np.float64).sum(1, keepdims=True)
    products = (embeddings @ centres.T).astype(np.float64)
    distances: FloatArray = squares - 2.0 * products
    distances += np.square(centres, dtype=np.float64).sum(1)
    return distances.clip(0.0)
