"""Context windows kept ready, brought up to date from the log."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from vzero_server.engine.context.single_flight import Job, SingleFlight
from vzero_server.engine.context.window import ContextWindow
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import PolicyVersion, Row
from vzero_server.types import BoolArray, Features

# What a window keeps of the features of prompts, beside their embeddings.
Reader = Callable[[Features], Features]

# What a cached window costs beside its arrays.
_ENTRY_BYTES = 1000
# The bits of a number of 16 bits that are all set in NaN and infinity.
_EXPONENT = np.uint16(0x7C00)


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
        store: OutcomeStore,
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
        self._refreshing: SingleFlight[_Key, ContextWindow] = SingleFlight(worker)
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

    async def get(
        self, policy_id: str, head: PolicyVersion, as_of_step: int | None, depth: int | None = None
    ) -> ContextWindow:
        """The window of a policy at ``head.version`` or later.

        Args:
            policy_id: The policy.
            head: Its key, and the newest version of its log.
            as_of_step: Only outcomes whose step is set and at most this.
            depth: Of how many rows, the newest, the prompts must be known; None for all.

        Raises:
            UnknownPolicyError: The policy was deleted in the meantime.
            OverloadedError: Its prompts must be embedded and the queue is full.
        """
        key = _Key(head.key, as_of_step)
        wanted = self._rows if depth is None else min(depth, self._rows)

        def will_do(window: ContextWindow) -> bool:
            deep = window.depth >= min(wanted, len(window))
            return deep and window.version >= head.version

        window = self._windows.get(key)
        if window is not None and will_do(window):
            self._metrics.windows.hit(1)
            return window
        self._metrics.windows.miss(1)

        async def extend(job: Job[ContextWindow]) -> ContextWindow:
            return await self._extend(head, key, wanted, job)

        while True:
            window = await self._refreshing.get(key, extend)
            if will_do(window):
                return window

    async def _extend(
        self, head: PolicyVersion, key: _Key, depth: int, job: Job[ContextWindow]
    ) -> ContextWindow:
        window = self._windows.get(key)
        if window is not None and window.depth < min(depth, len(window)):
            # What it lacks lies before what it has.
            window = None
        if window is not None and window.depth == len(window) > depth:
            # Whoever wanted all of it will do so again.
            depth = self._rows
        version, rows = await self._store.newest_rows(
            head,
            self._model_key,
            after=window.version if window else 0,
            limit=self._rows,
            depth=depth,
            as_of_step=key.as_of_step,
        )
        vectors = await self._features.of_rows(rows[max(0, len(rows) - depth) :])
        built = await job.run(self._built, window, version, rows, vectors, depth)
        if built.depth < min(depth, len(built)):
            # Rows that cannot be used were among the newest.
            if key in self._windows:
                del self._windows[key]
            return await self._extend(head, key, self._rows, job)
        if _cost(built) <= self._windows.maxsize:
            self._windows[key] = built
        return built

    def _built(
        self,
        window: ContextWindow | None,
        version: int,
        rows: Sequence[Row],
        vectors: Features,
        depth: int,
    ) -> ContextWindow:
        """The window after further rows, on a worker thread; vectors are of the newest of them."""
        whole = np.flatnonzero(_finite(vectors)).tolist()
        if len(whole) < len(vectors):
            start = len(rows) - len(vectors)
            rows = [*rows[:start], *(rows[start + position] for position in whole)]
            vectors = vectors[whole]
        embeddings = vectors[:, : self._pooled].astype(np.float32)
        features = np.empty((len(vectors), 0), np.float16)
        if self._reader:
            features = self._reader(vectors[:, self._pooled :])
        # Not `or`: a window without rows is false, but has a version to go on from.
        if window is None:
            window = ContextWindow.empty(self._pooled, features.shape[1])
        return window.extended(version, rows, embeddings, self._rows, features, depth)


def _finite(vectors: Features) -> BoolArray:
    """Which of vectors ``[n, columns]`` hold neither NaN nor infinity, ``[n]``."""
    # By the bits of the exponent: NumPy has no fast way for numbers of 16 bits.
    exponents = vectors.view(np.uint16) & _EXPONENT
    return np.asarray((exponents < _EXPONENT).all(axis=1))


def _cost(window: ContextWindow) -> int:
    return window.nbytes + _ENTRY_BYTES
