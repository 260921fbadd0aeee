"""Contexts as estimators have read them: kept, and read again when they have grown."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cachetools import LRUCache

from vzero_server.decisions.ranking import Label
from vzero_server.engine.context.single_flight import Job, SingleFlight
from vzero_server.engine.context.window import ContextWindow, Summary
from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.estimators.base import Estimator
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.records import PolicyVersion

logger = logging.getLogger(__name__)

# Is told that an estimator begins to read a window of a policy.
Opened = Callable[[int, Estimator, ContextWindow], None]

# What a kept context costs beside its numbers.
_ENTRY_BYTES = 1000
# Reading a context of fewer rows, or one that takes less time than this, in s, is simply
# done again.
_FEW, _CHEAP = 128, 0.02
# A context that takes t to read is read again after 5 t at the earliest, in the background,
# and not answered from after 10 t: under a stream of updates it costs a fifth of a core. On a
# busy machine reading takes longer than t; then it is answered from until 40 t, not to make
# callers wait for what comes soon.
_REFRESH_AFTER, _STALE_AFTER, _STALE_WHILE_READ = 5.0, 10.0, 40.0


class EstimatorName(StrEnum):
    """Names callers ask for."""

    AUTO = "AUTO"
    ICL = "ICL"
    KNN = "KNN"
    TABPFN = "TABPFN"


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class CachedContext:
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
    label: Label | None


class ContextCache:
    """The encoded contexts of recently asked policies, bounded by bytes.

    An answer rests on the newest version of a policy's log, with one exception: a context
    that is slow to read and grows all the time is answered from as it was up to ten times
    as long ago as it takes to read it, or forty times while it is being read. A caller that
    must see its own outcomes names their version, and waits.
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
        metrics: Metrics | None = None,
    ) -> None:
        """Set up the cache.

        Args:
            windows: The outcomes to read.
            estimators: Who reads them.
            prior: Who reads those of fewer than ``min_rows`` rows.
            min_rows: See ``prior``.
            max_bytes: Most memory of all that is kept.
            worker: Runs what takes longer than the event loop may halt.
            metrics: Where it is counted.
        """
        self._windows = windows
        self._estimators = estimators
        self._prior = prior
        self._min_rows = min_rows
        self._warned = False
        self._kept: LRUCache[_Key, CachedContext] = LRUCache(max_bytes, getsizeof=_cost)
        self._reading: SingleFlight[_Key, CachedContext] = SingleFlight(worker)
        self._metrics = metrics or Metrics()
        self._metrics.read(
            "encoded_bytes", "Memory of contexts as estimators read them.", lambda: self.nbytes
        )
        self._metrics.read("contexts_resident", "Contexts as estimators read them.", self.__len__)

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
        head: PolicyVersion,
        as_of_step: int | None,
        name: EstimatorName,
        min_version: int | None = None,
        label: Label | None = None,
        opened: Opened | None = None,
    ) -> CachedContext:
        """The context of a policy, read by an estimator.

        Args:
            policy_id: The policy.
            head: Its key, and the newest version of its log.
            as_of_step: Only outcomes whose step is set and at most this.
            name: The estimator.
            min_version: What the context must have at least.
            label: What the estimator reads instead of the rewards.
            opened: Told when the estimator begins to read, unless it has begun for another caller.

        Raises:
            UnknownPolicyError: The policy was deleted in the meantime.
            OverloadedError: Its prompts must be embedded and the queue is full.
        """
        key = _Key(head.key, as_of_step, name, label)

        async def read(job: Job[CachedContext]) -> CachedContext:
            depth = self._estimators[name].depth
            window = await self._windows.get(policy_id, head, as_of_step, depth)
            if opened:
                opened(head.key, self._reader(window, name), window)
            encoded = await job.run(self._encode, window, name, label)
            if _cost(encoded) <= self._kept.maxsize:
                self._kept[key] = encoded
            elif not self._warned:
                self._warned = True
                logger.warning(
                    "a context of %d MB is not kept, and read again for every call: "
                    "encoded_cache_bytes is %d MB",
                    _cost(encoded) >> 20,
                    int(self._kept.maxsize) >> 20,
                )
            return encoded

        kept = self._usable(key, head, min_version)
        if kept is not None:
            if _is_due(kept, head):
                self._reading.refresh(key, read)
            self._metrics.encoded.hit(1)
            return kept
        self._metrics.encoded.miss(1)
        while True:
            encoded = await self._reading.get(key, read)
            if encoded.summary.version >= head.version:
                return encoded

    def peek(
        self,
        head: PolicyVersion,
        as_of_step: int | None,
        name: EstimatorName,
        min_version: int | None = None,
        label: Label | None = None,
    ) -> CachedContext | None:
        """The context that ``get`` would answer with at once, and not read again; else None."""
        kept = self._usable(_Key(head.key, as_of_step, name, label), head, min_version)
        if kept is None or _is_due(kept, head):
            return None
        self._metrics.encoded.hit(1)
        return kept

    def _usable(
        self, key: _Key, head: PolicyVersion, min_version: int | None
    ) -> CachedContext | None:
        """What is kept, if it may be answered from."""
        kept = self._kept.get(key)
        if kept is None or kept.summary.version >= head.version:
            return kept
        most = _STALE_WHILE_READ if key in self._reading else _STALE_AFTER
        return kept if _may_be_stale(kept, min_version) and _age(kept) < most else None

    def drop(self) -> None:
        """Forget all contexts, to make room; whoever answers from one keeps it until done."""
        self._kept.clear()

    def _reader(self, window: ContextWindow, name: EstimatorName) -> Estimator:
        return self._prior if len(window) < self._min_rows else self._estimators[name]

    def _encode(
        self, window: ContextWindow, name: EstimatorName, label: Label | None
    ) -> CachedContext:
        if label is not None:
            window = replace(window, rewards=label.scale * window.rewards + label.shift)
        estimator = self._reader(window, name)
        # Not by the clock: on a busy machine that says how long others took.
        began = time.thread_time()
        context = estimator.encode(window)
        seconds = max(time.thread_time() - began, 1e-6)
        return CachedContext(context, estimator, window.summary, time.monotonic(), seconds)


def _age(kept: CachedContext) -> float:
    """How long ago it was read, in the time that took."""
    return (time.monotonic() - kept.read_at) / kept.seconds


def _is_due(kept: CachedContext, head: PolicyVersion) -> bool:
    """Whether it is to be read again in the background."""
    return kept.summary.version < head.version and _age(kept) > _REFRESH_AFTER


def _may_be_stale(kept: CachedContext, min_version: int | None) -> bool:
    slow = kept.seconds > _CHEAP and kept.summary.rows >= _FEW
    return slow and (min_version is None or kept.summary.version >= min_version)


def _cost(encoded: CachedContext) -> int:
    return int(encoded.context.nbytes) + _ENTRY_BYTES
