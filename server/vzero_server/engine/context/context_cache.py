"""Contexts as estimators have read them: cached, and fitted again when they have grown."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from cachetools import LRUCache

from vzero_server.engine.context.single_flight import Job, SingleFlight
from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.estimators.base import Estimator, FittedContext
from vzero_server.engine.estimators.window import ContextWindow, Summary
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.records import PolicyVersion

logger = logging.getLogger(__name__)

# Memory of a cached context beside its numbers, in bytes.
_ENTRY_BYTES = 1000
# A context of fewer rows, or one that is fitted in less time (in s), is always fitted again.
_FEW_ROWS, _CHEAP_SECONDS = 128, 0.02
# A context that takes t to fit is fitted again after 5 t at the earliest, in the background, and
# not used after 10 t: under a stream of updates that costs a fifth of a core. On a busy machine
# fitting takes longer than t; the context is then used until 40 t, so that callers need not wait.
_REFRESH_AFTER, _STALE_AFTER, _STALE_WHILE_FITTING = 5.0, 10.0, 40.0


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class CachedContext:
    """A context that an estimator has read.

    Attributes:
        policy: The policy, at the version for which the context was asked.
        fitted: What the estimator made of it.
        estimator: The estimator, which can predict from it.
        summary: The outcomes it rests on.
        fitted_at: When it was fitted, on the monotonic clock.
        seconds: Processor time of the fit.
    """

    policy: PolicyVersion
    fitted: FittedContext
    estimator: Estimator
    summary: Summary
    fitted_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Key:
    policy: int
    as_of_step: int | None
    estimator: str


class ContextCache:
    """The fitted contexts of recently used policies, bounded by bytes.

    A context reflects the newest version of its policy's log, with one exception: a context that
    is slow to fit and grows all the time is used for up to ten times the time its fit takes, or
    forty times while it is being fitted again. A caller that must see its own outcomes passes
    ``min_version``, and waits.
    """

    def __init__(
        self,
        windows: WindowCache,
        estimators: Mapping[str, Estimator],
        small: Estimator,
        *,
        min_rows: int,
        max_bytes: int,
        worker: Executor,
        metrics: Metrics | None = None,
    ) -> None:
        """Set up the cache.

        Args:
            windows: The outcomes to read.
            estimators: The estimators, by name.
            small: Reads contexts of fewer than ``min_rows`` rows.
            min_rows: See ``small``.
            max_bytes: Most memory of all cached contexts.
            worker: Runs what takes too long for the event loop.
            metrics: Counts hits and misses.
        """
        self._windows = windows
        self._estimators = estimators
        self._small = small
        self._min_rows = min_rows
        self._warned = False
        self._cached: LRUCache[_Key, CachedContext] = LRUCache(max_bytes, getsizeof=context_bytes)
        self._fitting: SingleFlight[_Key, CachedContext] = SingleFlight(worker)
        self._metrics = metrics or Metrics()
        self._metrics.read("context_cache_bytes", "Memory of fitted contexts.", lambda: self.nbytes)
        self._metrics.read("cached_contexts", "Fitted contexts in memory.", self.__len__)

    def __len__(self) -> int:
        """Return the number of contexts in memory."""
        return len(self._cached)

    @property
    def nbytes(self) -> int:
        """Memory they take, in bytes."""
        return int(self._cached.currsize)

    def ready(
        self,
        policy: PolicyVersion,
        estimator: str,
        *,
        as_of_step: int | None = None,
        min_version: int | None = None,
    ) -> CachedContext | None:
        """Return the cached context, if it may be used; fit it again in the background if due.

        Args:
            policy: The policy, at its newest version.
            estimator: Name of the estimator.
            as_of_step: Only outcomes whose step is set and at most this.
            min_version: Version that the context must have at least.
        """
        key = _Key(policy.key, as_of_step, estimator)
        cached = self._cached.get(key)
        if cached is None:
            return None
        if cached.summary.version < policy.version:
            most = _STALE_WHILE_FITTING if key in self._fitting else _STALE_AFTER
            age = _age(cached)
            if not _may_be_stale(cached, min_version) or age >= most:
                return None
            if age > _REFRESH_AFTER:
                self._refresh(key, policy)
        self._metrics.contexts.hit(1)
        return cached

    async def window(
        self, policy: PolicyVersion, estimator: str, *, as_of_step: int | None = None
    ) -> ContextWindow:
        """Return the window that ``fit`` reads.

        Raises:
            UnknownPolicyError: The policy was deleted in the meantime.
            OverloadedError: Its prompts must be embedded and the queue is full.
        """
        self._metrics.contexts.miss(1)
        rows_needed = self._estimators[estimator].rows_needed
        return await self._windows.get(policy, as_of_step, rows_needed)

    async def fit(
        self,
        policy: PolicyVersion,
        estimator: str,
        window: ContextWindow,
        *,
        as_of_step: int | None = None,
    ) -> CachedContext:
        """Fit a window and cache the result; joins a fit of the same context that is running."""
        key = _Key(policy.key, as_of_step, estimator)

        async def fit(job: Job[CachedContext]) -> CachedContext:
            return await self._fit(job, key, policy, window)

        while True:
            cached = await self._fitting.get(key, fit)
            # A running fit may have begun before the newest outcomes were appended.
            if cached.summary.version >= policy.version:
                return cached

    def reader(self, window: ContextWindow, estimator: str) -> Estimator:
        """Return the estimator that reads a window: another one if it has too few rows."""
        return self._small if len(window) < self._min_rows else self._estimators[estimator]

    def drop(self) -> None:
        """Drop all contexts to free memory; callers that use one keep it until they are done."""
        self._cached.clear()

    def _refresh(self, key: _Key, policy: PolicyVersion) -> None:
        async def refresh(job: Job[CachedContext]) -> CachedContext:
            rows_needed = self._estimators[key.estimator].rows_needed
            window = await self._windows.get(policy, key.as_of_step, rows_needed)
            return await self._fit(job, key, policy, window)

        self._fitting.refresh(key, refresh)

    async def _fit(
        self, job: Job[CachedContext], key: _Key, policy: PolicyVersion, window: ContextWindow
    ) -> CachedContext:
        context = await job.run(fit_context, policy, self.reader(window, key.estimator), window)
        if context_bytes(context) <= self._cached.maxsize:
            self._cached[key] = context
        elif not self._warned:
            self._warned = True
            logger.warning(
                "a context of %d MB is fitted again for every call: context_cache_bytes is %d MB",
                context_bytes(context) >> 20,
                int(self._cached.maxsize) >> 20,
            )
        return context


def fit_context(
    policy: PolicyVersion, estimator: Estimator, window: ContextWindow
) -> CachedContext:
    """Fit a window, and measure the processor time of the fit; runs on a worker thread."""
    # Not wall time, which on a busy machine tells how long other threads took.
    began = time.thread_time()
    fitted = estimator.fit(window)
    seconds = max(time.thread_time() - began, 1e-6)
    return CachedContext(policy, fitted, estimator, window.summary, time.monotonic(), seconds)


def _age(cached: CachedContext) -> float:
    """Time since the fit, in multiples of the time it took."""
    return (time.monotonic() - cached.fitted_at) / cached.seconds


def _may_be_stale(cached: CachedContext, min_version: int | None) -> bool:
    slow = cached.seconds > _CHEAP_SECONDS and cached.summary.rows >= _FEW_ROWS
    return slow and (min_version is None or cached.summary.version >= min_version)


def context_bytes(context: CachedContext) -> int:
    """Return what a context counts for in a cache bounded by bytes."""
    return int(context.fitted.nbytes) + _ENTRY_BYTES
