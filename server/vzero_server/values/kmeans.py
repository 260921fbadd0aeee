"""Kinds of prompts: the cells of k-means, of which directions alone count."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from vzero_server.types import Float32Array, FloatArray, IntArray

# Rounds of moving the centres; they stop before where no prompt changes its cell.
_ROUNDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A partition of prompts by the nearest centre.

    Attributes:
        centres: Of embeddings scaled to length 1, ``[cells, d]``.
    """

    centres: Float32Array

    def __len__(self) -> int:
        return len(self.centres)

    @classmethod
    def of(cls, embeddings: Float32Array, count: int, seed: int = 0) -> Self:
        """As many cells, where prompts are that different, by k-means.

        The first centres are prompts, each drawn in proportion to its squared distance from
        those before. The same embeddings give the same cells.

        Args:
            embeddings: ``[N, d]``, N at least 1.
            count: Of cells; fewer where fewer prompts are distinct.
            seed: Of the drawing.
        """
        embeddings = _unit(embeddings)
        rng = np.random.default_rng(seed)
        centres = embeddings[[int(rng.integers(len(embeddings)))]]
        far = _distances(embeddings, centres)[:, 0]
        while len(centres) < count and far.max() > 1e-6:
            drawn = int(rng.choice(len(far), p=far / far.sum()))
            centres = np.concatenate([centres, embeddings[[drawn]]])
            far = np.minimum(far, _distances(embeddings, centres[-1:])[:, 0])
        place = np.full(len(embeddings), -1)
        for _ in range(_ROUNDS):
            now = _distances(embeddings, centres).argmin(1)
            if (now == place).all():
                break
            place = now
            members = np.zeros((len(centres), len(embeddings)), np.float32)
            members[place, np.arange(len(place))] = 1.0
            sizes = members.sum(1, keepdims=True)
            # An empty cell stays where it is.
            centres = np.where(sizes > 0, members @ embeddings / np.maximum(sizes, 1), centres)
        return cls(centres.astype(np.float32))

    def nearest(self, embeddings: Float32Array) -> IntArray:
        """The cell of each prompt, ``[n]``, of embeddings ``[n, d]``."""
        nearest: IntArray = _distances(_unit(embeddings), self.centres).argmin(1)
        return nearest


def _unit(embeddings: Float32Array) -> Float32Array:
    scaled: Float32Array = embeddings / (np.linalg.norm(embeddings, axis=1, keepdims=True) + 1e-9)
    return scaled


def _distances(embeddings: Float32Array, centres: Float32Array) -> FloatArray:
    """Squared, ``[n, cells]``."""
    squares = np.square(embeddings, dtype=np.float64).sum(1, keepdims=True)
    products = (embeddings @ centres.T).astype(np.float64)
    found: FloatArray = squares - 2.0 * products
    found += np.square(centres, dtype=np.float64).sum(1)
    return found.clip(0.0)
