"""Context windows kept ready, brought up to date from the log."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from vzero_server.contexts.log import Row
from vzero_server.contexts.store import ContextStore, Head
from vzero_server.contexts.window import ContextWindow
from vzero_server.engine.features import FeatureCache, Vectors

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
        """
        self._store = store
        self._features = features
        self._model_key = model_key
        self._pooled = pooled
        self._rows = rows
        self._worker = worker
        self._reader = reader
        self._windows: LRUCache[_Key, ContextWindow] = LRUCache(max_bytes, getsizeof=_cost)
        self._refreshing: dict[_Key, asyncio.Task[ContextWindow]] = {}

    def __len__(self) -> int:
        """Windows in memory."""
        return len(self._windows)

    async def get(self, policy_id: str, head: Head, as_of_step: int | None) -> ContextWindow:
        """The window of a policy at ``head.version`` or later.

        Raises:
            UnknownPolicyError: The policy was deleted in the meantime.
            OverloadedError: Its prompts must be embedded and the queue is full.
        """
        key = _Key(head.key, as_of_step)
        while True:
            window = self._windows.get(key)
            if window is not None and window.version >= head.version:
                return window
            task = self._refreshing.get(key)
            if task is None or task.done():
                task = asyncio.create_task(self._refresh(policy_id, key, window))
                self._refreshing[key] = task
            # Shielded: others may wait for the same refresh.
            window = await asyncio.shield(task)
            if window.version >= head.version:
                return window

    async def _refresh(
        self, policy_id: str, key: _Key, window: ContextWindow | None
    ) -> ContextWindow:
        try:
            return await self._extend(policy_id, key, window)
        finally:
            # Before the task is done: whoever finds it here can wait for it.
            del self._refreshing[key]

    async def _extend(
        self, policy_id: str, key: _Key, window: ContextWindow | None
    ) -> ContextWindow:
        version, rows = await self._store.tail(
            policy_id,
            key.policy,
            self._model_key,
            after=window.version if window else 0,
            limit=self._rows,
            as_of_step=key.as_of_step,
        )
        vectors = await self._features.of_rows(rows)
        loop = asyncio.get_running_loop()
        window = await loop.run_in_executor(
            self._worker, self._built, window, version, rows, vectors
        )
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
