"""Contexts whose rewards are replaced by ones that include the cost (the paper's Eq. 11)."""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from cachetools import LRUCache

from vzero_server.decisions.ranking import Relabelling
from vzero_server.engine.context.context_cache import CachedContext, context_bytes, fit_context
from vzero_server.engine.context.single_flight import Job, SingleFlight
from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.estimators.base import Estimator
from vzero_server.storage.records import PolicyVersion


@dataclass(frozen=True, slots=True)
class _Key:
    policy: PolicyVersion
    estimator: str
    relabelling: Relabelling


class RelabelledContexts:
    """Fits contexts to relabelled rewards; keeps the most recently used ones.

    Separate from the context cache, whose keys need no relabelling. All methods belong
    to one event loop.
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
    ) -> None:
        """Set up; see ``ContextCache``."""
        self._windows = windows
        self._estimators = estimators
        self._small = small
        self._min_rows = min_rows
        self._cached: LRUCache[_Key, CachedContext] = LRUCache(max_bytes, getsizeof=context_bytes)
        self._fitting: SingleFlight[_Key, CachedContext] = SingleFlight(worker)

    async def get(
        self, policy: PolicyVersion, estimator: str, relabelling: Relabelling
    ) -> CachedContext:
        """Return a context fitted to relabelled rewards.

        Args:
            policy: The policy, at its newest version.
            estimator: Name of the estimator.
            relabelling: Map of the rewards.

        Raises:
            UnknownPolicyError: The policy was deleted in the meantime.
            OverloadedError: Its prompts must be embedded and the queue is full.
        """
        key = _Key(policy, estimator, relabelling)
        if (cached := self._cached.get(key)) is not None:
            return cached

        async def fit(job: Job[CachedContext]) -> CachedContext:
            rows_needed = self._estimators[estimator].rows_needed
            window = await self._windows.get(policy, None, rows_needed)
            few = len(window) < self._min_rows
            reader = self._small if few else self._estimators[estimator]
            rewards = relabelling.scale * window.rewards + relabelling.shift
            context = await job.run(fit_context, policy, reader, replace(window, rewards=rewards))
            if context_bytes(context) <= self._cached.maxsize:
                self._cached[key] = context
            return context

        return await self._fitting.get(key, fit)

    def drop(self) -> None:
        """Drop all contexts to free memory."""
        self._cached.clear()
