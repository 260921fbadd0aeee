"""Context windows in memory, brought up to date from the log."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from vzero_server.engine.context.single_flight import Job, SingleFlight
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import PolicyVersion, Row
from vzero_server.types import BoolArray, Features

# Maps the columns of feature vectors behind the embedding to what a window keeps of them for one
# estimator; None if that is nothing.
WindowFeatures = Callable[[Features], Features | None]

# Memory of a cached window beside its arrays, in bytes.
_ENTRY_BYTES = 1000
# The exponent bits of a float16, all of which are set in NaN and infinity.
_EXPONENT = np.uint16(0x7C00)


@dataclass(frozen=True, slots=True)
class _Key:
    policy: int
    as_of_step: int | None


class WindowCache:
    """The windows of recently used policies, bounded by bytes.

    A window is built on first use and extended by later outcomes. The log holds everything that
    is needed to build it again, so dropping a window loses nothing.
    """

    def __init__(
        self,
        store: OutcomeStore,
        feature_cache: FeatureCache,
        *,
        model_key: int,
        embedding_columns: int,
        rows: int,
        max_bytes: int,
        worker: Executor,
        window_features: Mapping[str, WindowFeatures] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Set up the cache.

        Args:
            store: The log.
            feature_cache: Feature vectors of prompts.
            model_key: Key of the encoder in the log.
            embedding_columns: Leading columns of a feature vector that are the embedding.
            rows: Most outcomes of a window.
            max_bytes: Most memory of all windows.
            worker: Runs what takes too long for the event loop.
            window_features: By name of an estimator, what windows keep of the other columns.
            metrics: Counts hits and misses.
        """
        self._store = store
        self._feature_cache = feature_cache
        self._model_key = model_key
        self._embedding_columns = embedding_columns
        self._rows = rows
        self._window_features = dict(window_features or {})
        self._windows: LRUCache[_Key, ContextWindow] = LRUCache(max_bytes, getsizeof=_cost)
        self._extending: SingleFlight[_Key, ContextWindow] = SingleFlight(worker)
        self._metrics = metrics or Metrics()
        self._metrics.read("window_cache_bytes", "Memory of context windows.", lambda: self.nbytes)
        self._metrics.read(
            "cached_policies",
            "Policies with a context window in memory.",
            lambda: len({key.policy for key in tuple(self._windows)}),
        )

    def __len__(self) -> int:
        """Return the number of windows in memory."""
        return len(self._windows)

    @property
    def nbytes(self) -> int:
        """Memory they take, in bytes."""
        return int(self._windows.currsize)

    async def get(
        self, policy: PolicyVersion, as_of_step: int | None, rows_needed: int | None = None
    ) -> ContextWindow:
        """Return the window of a policy at ``policy.version`` or later.

        Args:
            policy: The policy.
            as_of_step: Only outcomes whose step is set and at most this.
            rows_needed: Number of newest rows that must have embeddings; None for all.

        Raises:
            UnknownPolicyError: The policy was deleted in the meantime.
            OverloadedError: Its prompts must be embedded and the queue is full.
        """
        key = _Key(policy.key, as_of_step)
        embedded_rows = self._rows if rows_needed is None else min(rows_needed, self._rows)

        def suffices(window: ContextWindow) -> bool:
            embedded = window.embedded_rows >= min(embedded_rows, len(window))
            return embedded and window.version >= policy.version

        cached = self._windows.get(key)
        if cached is not None and suffices(cached):
            self._metrics.windows.hit(1)
            return cached
        self._metrics.windows.miss(1)

        async def extend(job: Job[ContextWindow]) -> ContextWindow:
            return await self._extend(policy, key, embedded_rows, job)

        while True:
            window = await self._extending.get(key, extend)
            if suffices(window):
                return window

    async def _extend(
        self, policy: PolicyVersion, key: _Key, embedded_rows: int, job: Job[ContextWindow]
    ) -> ContextWindow:
        window = self._windows.get(key)
        if window is not None and window.embedded_rows < min(embedded_rows, len(window)):
            # The rows that it lacks lie before those that it has: build it anew.
            window = None
        if window is not None and window.embedded_rows == len(window) > embedded_rows:
            # An estimator that reads all rows has used it, and will use it again.
            embedded_rows = self._rows
        version, rows = await self._store.newest_rows(
            policy,
            self._model_key,
            after=window.version if window else 0,
            limit=self._rows,
            embedded_rows=embedded_rows,
            as_of_step=key.as_of_step,
        )
        vectors = await self._feature_cache.of_rows(rows[max(0, len(rows) - embedded_rows) :])
        extended = await job.run(self._extended, window, version, rows, vectors, embedded_rows)
        if extended.embedded_rows < min(embedded_rows, len(extended)):
            # Rows that cannot be used were among the newest.
            self._windows.pop(key, None)
            return await self._extend(policy, key, self._rows, job)
        if _cost(extended) <= self._windows.maxsize:
            self._windows[key] = extended
        return extended

    def _extended(
        self,
        window: ContextWindow | None,
        version: int,
        rows: Sequence[Row],
        vectors: Features,
        embedded_rows: int,
    ) -> ContextWindow:
        """Extend a window by rows, given vectors of the newest of them; on a worker thread."""
        usable = np.flatnonzero(_finite(vectors)).tolist()
        if len(usable) < len(vectors):
            start = len(rows) - len(vectors)
            rows = [*rows[:start], *(rows[start + position] for position in usable)]
            vectors = vectors[usable]
        embeddings = vectors[:, : self._embedding_columns].astype(np.float32)
        features = {}
        for name, window_features in self._window_features.items():
            kept = window_features(vectors[:, self._embedding_columns :])
            if kept is not None:
                features[name] = kept
        # Not `or`: a window without rows is false, but has a version to go on from.
        if window is None:
            window = ContextWindow.empty(self._embedding_columns)
        return window.extended(version, rows, embeddings, self._rows, features, embedded_rows)


def _finite(vectors: Features) -> BoolArray:
    """Which of vectors ``[n, columns]`` hold neither NaN nor infinity, ``[n]``."""
    # By the bits of the exponent: NumPy has no fast way for float16.
    exponents = vectors.view(np.uint16) & _EXPONENT
    return np.asarray((exponents < _EXPONENT).all(axis=1))


def _cost(window: ContextWindow) -> int:
    return window.nbytes + _ENTRY_BYTES
