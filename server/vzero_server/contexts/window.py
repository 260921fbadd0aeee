"""The outcomes an estimate conditions on: a policy's newest, with their embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from vzero_server.contexts.log import Row

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class ContextWindow:
    """An immutable FIFO window over one policy's outcomes, oldest first.

    A newer version is a new window (``extended``), so that whoever still computes with
    the old one is not disturbed, and what was derived from a window stays true of it.

    Attributes:
        version: Version of the policy's log that the window reflects.
        index: Exact Euclidean index that holds the prompts' embeddings, ``[n, d]``.
        rewards: ``[n]``, in [0, 1].
        rollouts: Attempts behind each reward, ``[n]``.
        steps: Step of each outcome, -1 where none was named, ``[n]``.
        observed_at: Seconds since the epoch, ``[n]``.
    """

    version: int
    index: faiss.IndexFlatL2
    rewards: FloatArray
    rollouts: IntArray
    steps: IntArray
    observed_at: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, dimension: int) -> "ContextWindow":
        """A window before any outcome, for embeddings of ``dimension`` columns."""
        return cls(
            version=0,
            index=faiss.IndexFlatL2(dimension),
            rewards=np.empty(0, np.float32),
            rollouts=np.empty(0, np.int64),
            steps=np.empty(0, np.int64),
            observed_at=np.empty(0, np.float64),
        )

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def embeddings(self) -> FloatArray:
        """The embeddings, ``[n, d]``: a view that must not outlive the window."""
        rows, columns = len(self), self.index.d
        if not rows:
            return np.empty((0, columns), np.float32)
        flat: FloatArray = faiss.rev_swig_ptr(self.index.get_xb(), rows * columns)
        return flat.reshape(rows, columns)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return len(self) * (4 * self.index.d + 4 + 3 * 8)

    @cached_property
    def newest_step(self) -> int | None:
        """Highest step of the window, None if no outcome names one."""
        newest = int(self.steps.max(initial=-1))
        return None if newest < 0 else newest

    @cached_property
    def newest_observed_at(self) -> float | None:
        """When the newest outcome was observed, None for an empty window."""
        return float(self.observed_at.max()) if len(self) else None

    def extended(
        self, version: int, rows: Sequence[Row], embeddings: FloatArray, limit: int
    ) -> "ContextWindow":
        """The window after further rows, the oldest beyond ``limit`` dropped.

        Args:
            version: The version that ``rows`` lead up to.
            rows: The further rows, oldest first.
            embeddings: Their prompts' embeddings, ``[len(rows), d]``.
            limit: Most rows of the new window.
        """
        drop = max(0, len(self) + len(rows) - limit)
        index = faiss.IndexFlatL2(self.index.d)
        kept = np.concatenate([self.embeddings, embeddings.astype(np.float32)])[drop:]
        index.add(np.ascontiguousarray(kept))
        steps = [-1 if row.step is None else row.step for row in rows]
        return ContextWindow(
            version=version,
            index=index,
            rewards=_joined(self.rewards, [row.reward for row in rows], drop),
            rollouts=_joined(self.rollouts, [row.rollouts for row in rows], drop),
            steps=_joined(self.steps, steps, drop),
            observed_at=_joined(self.observed_at, [row.observed_at for row in rows], drop),
        )

    def nearest(self, queries: FloatArray, k: int) -> IntArray:
        """Positions of the nearest rows by Euclidean distance.

        Args:
            queries: ``[m, d]``.
            k: Neighbours wanted, at most ``len(self)``.

        Returns:
            ``[m, k]``, nearest first.
        """
        _, positions = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        return np.asarray(positions, np.int64)


def _joined(old: npt.NDArray[Number], new: Sequence[float], drop: int) -> npt.NDArray[Number]:
    return np.concatenate([old, np.asarray(new, old.dtype)])[drop:]
