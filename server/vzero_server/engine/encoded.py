"""Contexts as estimators have read them: kept, and read again when they have grown."""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cachetools import LRUCache

from vzero_server.contexts.store import Head
from vzero_server.contexts.window import ContextWindow, Summary
from vzero_server.engine.estimators.estimator import Estimator
from vzero_server.engine.windows import WindowCache

# What a kept context costs beside its numbers.
_ENTRY_BYTES = 1000
# Reading a context of fewer rows, or one that takes less time than this, in s, is simply
# done again.
_FEW, _CHEAP = 128, 0.02
# A context that takes t to read is read again after 5 t at the earliest, in the background,
# and not answered from after 10 t: under a stream of updates it costs a fifth of a core.
_REFRESH_AFTER, _STALE_AFTER = 5.0, 10.0


class EstimatorName(StrEnum):
    """Names callers ask for."""

    AUTO = "AUTO"
    ICL = "ICL"
    KNN = "KNN"
    TABPFN = "TABPFN"


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Encoded:
    """A context an estimator has read.

    Attributes:
        context: What it made of it.
        estimator: Who can answer from it.
        summary: The outcomes it rests on.
        read_at: When, on the monotonic clock.
        seconds: Processor time that took.
    """

    context: Any
    estimator: Estimator
    summary: Summary
    read_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Key:
    policy: int
    as_of_step: int | None
    estimator: EstimatorName


class EncodedContexts:
    """The encoded contexts of recently asked policies, bounded by bytes.

    An answer rests on the newest version of a policy's log, with one exception: a context
    that is slow to read and grows all the time is answered from as it was up to ten times
    as long ago as it takes to read it. A caller that must see its own outcomes names their
    version, and waits.
    """

    def __init__(
        self,
        windows: WindowCache,
        estimators: Mapping[EstimatorName, Estimator],
        prior: Estimator,
        *,
        min_rows: int,
        max_bytes: int,
        worker: Executor,
    ) -> None:
        """Set up the cache.

        Args:
            windows: The outcomes to read.
            estimators: Who reads them.
            prior: Who reads those of fewer than ``min_rows`` rows.
            min_rows: See ``prior``.
            max_bytes: Most memory of all that is kept.
            worker: Runs what takes longer than the event loop may halt.
        """
        self._windows = windows
        self._estimators = estimators
        self._prior = prior
        self._min_rows = min_rows
        self._worker = worker
        self._kept: LRUCache[_Key, Encoded] = LRUCache(max_bytes, getsizeof=_cost)
        self._reading: dict[_Key, asyncio.Task[Encoded]] = {}

    def __len__(self) -> int:
        """Contexts in memory."""
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Memory they take."""
        return int(self._kept.currsize)

    async def get(
        self,
        policy_id: str,
        head: Head,
        as_of_step: int | None,
        name: EstimatorName,
        min_version: int | None = None,
    ) -> Encoded:
        """The context of a policy, read by an estimator.

        Args:
            policy_id: The policy.
            head: Its key, and the newest version of its log.
            as_of_step: Only outcomes whose step is set and at most this.
            name: The estimator.
            min_version: What the context must have at least.

        Raises:
            UnknownPolicyError: The policy was deleted in the meantime.
            OverloadedError: Its prompts must be embedded and the queue is full.
        """
        key = _Key(head.key, as_of_step, name)
        while True:
            kept = self._kept.get(key)
            if kept is not None:
                if kept.summary.version >= head.version:
                    return kept
                age = (time.monotonic() - kept.read_at) / kept.seconds
                if _may_be_stale(kept, min_version) and age < _STALE_AFTER:
                    if age > _REFRESH_AFTER:
                        self._start(policy_id, key, head)
                    return kept
            # Shielded: others may wait for the same reading.
            encoded = await asyncio.shield(self._start(policy_id, key, head))
            if encoded.summary.version >= head.version:
                return encoded

    def _start(self, policy_id: str, key: _Key, head: Head) -> "asyncio.Task[Encoded]":
        """Read a context, unless that is under way."""
        task = self._reading.get(key)
        if task is None or task.done():
            task = asyncio.create_task(self._read(policy_id, key, head))
            # Nobody may wait for it.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._reading[key] = task
        return task

    async def _read(self, policy_id: str, key: _Key, head: Head) -> Encoded:
        try:
            window = await self._windows.get(policy_id, head, key.as_of_step)
            loop = asyncio.get_running_loop()
            encoded = await loop.run_in_executor(self._worker, self._encode, window, key.estimator)
            if _cost(encoded) <= self._kept.maxsize:
                self._kept[key] = encoded
            return encoded
        finally:
            # Before the task is done: whoever finds it here can wait for it.
            del self._reading[key]

    def _encode(self, window: ContextWindow, name: EstimatorName) -> Encoded:
        few = len(window) < self._min_rows
        estimator = self._prior if few else self._estimators[name]
        # Not by the clock: on a busy machine that says how long others took.
        began = time.thread_time()
        context = estimator.encode(window)
        seconds = max(time.thread_time() - began, 1e-6)
        return Encoded(context, estimator, window.summary, time.monotonic(), seconds)


def _may_be_stale(kept: Encoded, min_version: int | None) -> bool:
    slow = kept.seconds > _CHEAP and kept.summary.rows >= _FEW
    return slow and (min_version is None or kept.summary.version >= min_version)


def _cost(encoded: Encoded) -> int:
    return int(encoded.context.nbytes) + _ENTRY_BYTES
