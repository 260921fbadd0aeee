"""The outcomes an estimate conditions on: a policy's newest, with their embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from vzero_server.storage.records import Row
from vzero_server.types import Features, Float32Array, FloatArray, IntArray
from vzero_server.values.ages import ages_of

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a caller is told of the outcomes behind a value.

    Attributes:
        version: Version of the policy's log.
        rows: Outcomes in the window.
        newest_step: Highest step among them, None if none names one.
        newest_observed_at: When the newest was observed, None if there is none.
    """

    version: int
    rows: int
    newest_step: int | None
    newest_observed_at: float | None


@dataclass(frozen=True, eq=False)
class ContextWindow:
    """An immutable FIFO window over one policy's outcomes, oldest first.

    A newer version is a new window (``extended``), so that whoever still computes with
    the old one is not disturbed, and what was derived from a window stays true of it.

    What is known of prompts is much more than all the rest, and may be there of the newest
    rows alone: m of n.

    Attributes:
        version: Version of the policy's log that the window reflects.
        index: Exact Euclidean index that holds the embeddings of prompts, ``[m, d]``.
        features: What else is known of the prompts, opaque here, ``[m, f]``.
        prompts: Keys of the prompts in the log, ``[n]``.
        rewards: ``[n]``, in [0, 1].
        rollouts: Attempts behind each reward, ``[n]``.
        steps: Step of each outcome, -1 where none was named, ``[n]``.
        observed_at: Seconds since the epoch, ``[n]``.
    """

    version: int
    index: faiss.IndexFlatL2
    features: Features
    prompts: IntArray
    rewards: Float32Array
    rollouts: IntArray
    steps: IntArray
    observed_at: FloatArray

    @classmethod
    def empty(cls, dimension: int, columns: int = 0) -> "ContextWindow":
        """A window before any outcome, for embeddings and features of so many columns."""
        return cls(
            version=0,
            index=faiss.IndexFlatL2(dimension),
            features=np.empty((0, columns), np.float16),
            prompts=np.empty(0, np.int64),
            rewards=np.empty(0, np.float32),
            rollouts=np.empty(0, np.int64),
            steps=np.empty(0, np.int64),
            observed_at=np.empty(0, np.float64),
        )

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def depth(self) -> int:
        """Of how many rows, the newest, the prompts are known: m."""
        return len(self.features)

    @property
    def embeddings(self) -> Float32Array:
        """The embeddings, ``[m, d]``: a view that must not outlive the window."""
        rows, columns = self.depth, self.index.d
        if not rows:
            return np.empty((0, columns), np.float32)
        flat: Float32Array = faiss.rev_swig_ptr(self.index.get_xb(), rows * columns)
        return flat.reshape(rows, columns)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        columns: int = 4 * self.index.d + 2 * self.features.shape[1]
        return self.depth * columns + len(self) * (4 + 4 * 8)

    @cached_property
    def ages(self) -> IntArray:
        """How old each outcome is, in rows, ``[n]``; see ``ages_of``."""
        return ages_of(self.steps)

    @cached_property
    def summary(self) -> Summary:
        """What a caller is told of it."""
        newest = int(self.steps.max(initial=-1))
        return Summary(
            version=self.version,
            rows=len(self),
            newest_step=None if newest < 0 else newest,
            newest_observed_at=float(self.observed_at.max()) if len(self) else None,
        )

    def extended(
        self,
        version: int,
        rows: Sequence[Row],
        embeddings: Float32Array,
        limit: int,
        features: Features | None = None,
        depth: int | None = None,
    ) -> "ContextWindow":
        """The window after further rows, the oldest beyond ``limit`` dropped.

        Args:
            version: The version that ``rows`` lead up to.
            rows: The further rows, oldest first.
            embeddings: Embeddings of the prompts of all of them, or of the newest: ``[k, d]``.
            limit: Most rows of the new window.
            features: Features of the same prompts, ``[k, f]``; None where f is 0.
            depth: Most rows whose prompts are known in the new window; ``limit`` by default.
        """
        drop = max(0, len(self) + len(rows) - limit)
        depth = limit if depth is None else min(depth, limit)
        index = faiss.IndexFlatL2(self.index.d)
        if features is None:
            features = np.empty((len(embeddings), 0), np.float16)
        # Known rows have no gap between them.
        known = max(0, depth - len(embeddings)) if len(embeddings) == len(rows) else 0
        start, stop = max(0, self.depth - known), max(0, len(embeddings) - depth)
        kept = [self.embeddings[start:], embeddings[stop:].astype(np.float32, copy=False)]
        index.add(np.concatenate(kept))
        steps = [-1 if row.step is None else row.step for row in rows]
        return ContextWindow(
            version=version,
            index=index,
            features=np.concatenate([self.features[start:], features[stop:]]),
            prompts=_joined(self.prompts, [row.prompt_key for row in rows], drop),
            rewards=_joined(self.rewards, [row.reward for row in rows], drop),
            rollouts=_joined(self.rollouts, [row.rollouts for row in rows], drop),
            steps=_joined(self.steps, steps, drop),
            observed_at=_joined(self.observed_at, [row.observed_at for row in rows], drop),
        )

    def nearest(self, queries: Float32Array, k: int) -> IntArray:
        """Positions of the nearest rows by Euclidean distance, of those whose prompts are known.

        Args:
            queries: ``[q, d]``.
            k: Neighbours wanted, at most ``depth``.

        Returns:
            ``[q, k]``, nearest first.
        """
        _, positions = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        return np.asarray(positions, np.int64) + (len(self) - self.depth)


def _joined(old: npt.NDArray[Number], new: Sequence[float], drop: int) -> npt.NDArray[Number]:
    return np.concatenate([old, np.asarray(new, old.dtype)])[drop:]
