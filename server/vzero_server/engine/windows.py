"""Context windows kept ready, brought up to date from the log."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from vzero_server.contexts.log import Row
from vzero_server.contexts.store import ContextStore, Head
from vzero_server.contexts.window import ContextWindow
from vzero_server.engine.features import FeatureCache, Vectors
from vzero_server.engine.shared import Job, SharedWork
from vzero_server.metrics import Metrics

# What a window keeps of the features of prompts, beside their embeddings.
Reader = Callable[[Vectors], Vectors]

# What a cached window costs beside its arrays.
_ENTRY_BYTES = 1000


@dataclass(frozen=True, slots=True)
class _Key:
    policy: int
    as_of_step: int | None


class WindowCache:
    """The windows of recently asked policies, bounded by bytes.

    A window is built on first use and extended by what was appended since; the log
    holds everything needed to build it again, so dropping one loses nothing.
    """

    def __init__(
        self,
        store: ContextStore,
        features: FeatureCache,
        *,
        model_key: int,
        pooled: int,
        rows: int,
        max_bytes: int,
        worker: Executor,
        reader: Reader | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Set up the cache.

        Args:
            store: The log.
            features: Feature vectors of prompts.
            model_key: Of the encoder, in the log.
            pooled: Leading columns of a feature vector that are the embedding.
            rows: Most outcomes of a window.
            max_bytes: Most memory of all windows.
            worker: Runs what takes longer than the event loop may halt.
            reader: What is kept of the other columns; nothing, if None.
            metrics: Where it is counted.
        """
        self._store = store
        self._features = features
        self._model_key = model_key
        self._pooled = pooled
        self._rows = rows
        self._reader = reader
        self._windows: LRUCache[_Key, ContextWindow] = LRUCache(max_bytes, getsizeof=_cost)
        self._refreshing: SharedWork[_Key, ContextWindow] = SharedWork(worker)
        self._metrics = metrics or Metrics()
        self._metrics.read("window_bytes", "Memory of context windows.", lambda: self.nbytes)
        self._metrics.read(
            "policies_resident",
            "Policies with a context window in memory.",
            lambda: len({key.policy for key in tuple(self._windows)}),
        )

    def __len__(self) -> int:
        """Windows in memory."""
        return len(self._windows)

    @property
    def nbytes(self) -> int:
        """Memory they take."""
        return int(self._windows.currsize)

    async def get(self, policy_id: str, head: Head, as_of_step: int | None) -> ContextWindow:
        """The window of a policy at ``head.version`` or later.

        Raises:
            UnknownPolicyError: The policy was deleted in the meantime.
            OverloadedError: Its prompts must be embedded and the queue is full.
        """
        key = _Key(head.key, as_of_step)
        window = self._windows.get(key)
        if window is not None and window.version >= head.version:
            self._metrics.windows.hit(1)
            return window
        self._metrics.windows.miss(1)

        async def extend(job: Job[ContextWindow]) -> ContextWindow:
            return await self._extend(policy_id, key, job)

        while True:
            window = await self._refreshing.get(key, extend)
            if window.version >= head.version:
                return window

    async def _extend(self, policy_id: str, key: _Key, job: Job[ContextWindow]) -> ContextWindow:
        window = self._windows.get(key)
        version, rows = await self._store.tail(
            policy_id,
            key.policy,
            self._model_key,
            after=window.version if window else 0,
            limit=self._rows,
            as_of_step=key.as_of_step,
        )
        vectors = await self._features.of_rows(rows)
        whole = np.flatnonzero(np.isfinite(vectors).all(axis=1))
        if len(whole) < len(rows):
            rows = [rows[position] for position in whole]
            vectors = vectors[whole]
        window = await job.run(self._built, window, version, rows, vectors)
        if _cost(window) <= self._windows.maxsize:
            self._windows[key] = window
        return window

    def _built(
        self, window: ContextWindow | None, version: int, rows: Sequence[Row], vectors: Vectors
    ) -> ContextWindow:
        """The window after further rows, on a worker thread."""
        embeddings = vectors[:, : self._pooled].astype(np.float32)
        features = np.empty((len(rows), 0), np.float16)
        if self._reader:
            features = self._reader(vectors[:, self._pooled :])
        # Not `or`: a window without rows is false, but has a version to go on from.
        if window is None:
            window = ContextWindow.empty(self._pooled, features.shape[1])
        return window.extended(version, rows, embeddings, self._rows, features)


def _cost(window: ContextWindow) -> int:
    return window.nbytes + _ENTRY_BYTES
