"""The context window: a policy's newest outcomes, with the embeddings of their prompts."""

from collections.abc import Mapping, Sequence
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
    """The outcomes behind a value, as they are reported to callers.

    Attributes:
        version: Version of the policy's log.
        rows: Outcomes in the window.
        newest_step: Highest step among them; None if no outcome names one.
        newest_observed_at: When the newest was observed, in seconds since the epoch; None if the
            window is empty.
    """

    version: int
    rows: int
    newest_step: int | None
    newest_observed_at: float | None


@dataclass(frozen=True, eq=False)
class ContextWindow:
    """The newest n outcomes of a policy at one version; immutable.

    A newer version is a new window (``extended``), so that computations on the old one are not
    disturbed, and everything derived from a window stays valid.

    Embeddings and features take most of the memory, and may be kept for the newest m rows only.

    Attributes:
        version: Version of the policy's log that the window reflects.
        index: Exact Euclidean index that holds the embeddings of prompts, ``[m, d]``.
        features: What estimators keep of prompts beside the embeddings, by the name of the
            estimator, ``[m, f]`` each.
        prompts: Keys of the prompts in the log, ``[n]``, oldest row first.
        rewards: ``[n]``, in [0, 1].
        rollouts: Attempts behind each reward, ``[n]``.
        steps: Step of each outcome, -1 where none was named, ``[n]``.
        observed_at: Seconds since the epoch, ``[n]``.
    """

    version: int
    index: faiss.IndexFlatL2
    features: Mapping[str, Features]
    prompts: IntArray
    rewards: Float32Array
    rollouts: IntArray
    steps: IntArray
    observed_at: FloatArray

    @classmethod
    def empty(cls, dimension: int) -> "ContextWindow":
        """Return a window before any outcome, for embeddings of so many columns."""
        return cls(
            version=0,
            index=faiss.IndexFlatL2(dimension),
            features={},
            prompts=np.empty(0, np.int64),
            rewards=np.empty(0, np.float32),
            rollouts=np.empty(0, np.int64),
            steps=np.empty(0, np.int64),
            observed_at=np.empty(0, np.float64),
        )

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def embedded_rows(self) -> int:
        """Number of newest rows that have embeddings and features: m."""
        return int(self.index.ntotal)

    @property
    def embeddings(self) -> Float32Array:
        """The embeddings, ``[m, d]``: a view that must not outlive the window."""
        rows, columns = self.embedded_rows, self.index.d
        if not rows:
            return np.empty((0, columns), np.float32)
        flat: Float32Array = faiss.rev_swig_ptr(self.index.get_xb(), rows * columns)
        return flat.reshape(rows, columns)

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        embeddings: int = 4 * self.embedded_rows * self.index.d
        features = sum(features.nbytes for features in self.features.values())
        return embeddings + features + len(self) * (4 + 4 * 8)

    @cached_property
    def ages(self) -> IntArray:
        """Age of each outcome, in outcomes of later steps, ``[n]``; see ``ages_of``."""
        return ages_of(self.steps)

    @cached_property
    def summary(self) -> Summary:
        """The window as it is reported to callers."""
        newest_step = int(self.steps.max(initial=-1))
        return Summary(
            version=self.version,
            rows=len(self),
            newest_step=None if newest_step < 0 else newest_step,
            newest_observed_at=float(self.observed_at.max()) if len(self) else None,
        )

    def extended(
        self,
        version: int,
        rows: Sequence[Row],
        embeddings: Float32Array,
        limit: int,
        features: Mapping[str, Features] | None = None,
        embedded_rows: int | None = None,
    ) -> "ContextWindow":
        """Return the window after further rows, the oldest beyond ``limit`` dropped.

        Args:
            version: The version that ``rows`` lead up to.
            rows: The further rows, oldest first.
            embeddings: Of the prompts of all of these rows, or of the newest k: ``[k, d]``.
            limit: Most rows of the new window.
            features: Features of the same k prompts, ``[k, f]`` each, by estimator; the same
                estimators in every call.
            embedded_rows: Most rows of the new window that have embeddings; ``limit`` by default.
        """
        drop = max(0, len(self) + len(rows) - limit)
        most = limit if embedded_rows is None else min(embedded_rows, limit)
        # The embedded rows are the newest ones, without a gap: old ones are kept only if all
        # further rows are embedded.
        room = max(0, most - len(embeddings)) if len(embeddings) == len(rows) else 0
        start, stop = max(0, self.embedded_rows - room), max(0, len(embeddings) - most)
        index = faiss.IndexFlatL2(self.index.d)
        added = embeddings[stop:].astype(np.float32, copy=False)
        index.add(np.concatenate([self.embeddings[start:], added]))
        steps = [-1 if row.step is None else row.step for row in rows]
        return ContextWindow(
            version=version,
            index=index,
            features={
                name: _appended(self.features.get(name), start, further[stop:])
                for name, further in (features or {}).items()
            },
            prompts=_joined(self.prompts, [row.prompt_key for row in rows], drop),
            rewards=_joined(self.rewards, [row.reward for row in rows], drop),
            rollouts=_joined(self.rollouts, [row.rollouts for row in rows], drop),
            steps=_joined(self.steps, steps, drop),
            observed_at=_joined(self.observed_at, [row.observed_at for row in rows], drop),
        )

    def nearest(self, queries: Float32Array, k: int) -> IntArray:
        """Return the positions of the nearest embedded rows by Euclidean distance.

        Args:
            queries: ``[q, d]``.
            k: Number of neighbours, at most ``embedded_rows``.

        Returns:
            ``[q, k]``, nearest first.
        """
        _, positions = self.index.search(np.ascontiguousarray(queries, np.float32), k)
        return np.asarray(positions, np.int64) + (len(self) - self.embedded_rows)


def _appended(kept: Features | None, start: int, further: Features) -> Features:
    """Features of the rows from ``start`` on, with those of further rows."""
    if kept is None:
        return further
    return np.concatenate([kept[start:], further])


def _joined(old: npt.NDArray[Number], new: Sequence[float], drop: int) -> npt.NDArray[Number]:
    return np.concatenate([old, np.asarray(new, old.dtype)])[drop:]
