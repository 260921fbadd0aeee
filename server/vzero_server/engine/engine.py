"""The one door: values of prompts under a policy."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from vzero_server.contexts.log import Appended
from vzero_server.contexts.outcome import Outcome
from vzero_server.contexts.store import ContextStore
from vzero_server.contexts.window import ContextWindow
from vzero_server.engine.batcher import Batcher
from vzero_server.engine.errors import EstimatorNotLoadedError
from vzero_server.engine.estimators import Estimator, Prior
from vzero_server.engine.features import FeatureCache
from vzero_server.engine.value import Values
from vzero_server.engine.windows import WindowCache


class EstimatorName(StrEnum):
    """Names callers ask for."""

    AUTO = "AUTO"
    ICL = "ICL"
    KNN = "KNN"
    TABPFN = "TABPFN"


# What AUTO means: the first of these that is loaded.
_PREFERENCE = (EstimatorName.ICL, EstimatorName.KNN)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Values and the context window they rest on."""

    values: Values
    window: ContextWindow


class Engine:
    """Computes values and takes outcomes in; all methods belong to one event loop."""

    def __init__(
        self,
        store: ContextStore,
        batcher: Batcher,
        features: FeatureCache,
        windows: WindowCache,
        estimators: Mapping[EstimatorName, Estimator],
        *,
        min_context_rows: int,
        threads: int = 2,
    ) -> None:
        """Put the parts together.

        Args:
            store: What is known of policies.
            batcher: The queue in front of the backbone.
            features: Embeddings of prompts.
            windows: Context windows.
            estimators: Those loaded.
            min_context_rows: With fewer outcomes a policy is answered from the prior.
            threads: Worker threads that run estimators.
        """
        self._store = store
        self._batcher = batcher
        self._features = features
        self._windows = windows
        self._estimators = dict(estimators)
        auto = next(name for name in _PREFERENCE if name in self._estimators)
        self._estimators[EstimatorName.AUTO] = self._estimators[auto]
        self._prior = Prior()
        self._min_context_rows = min_context_rows
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="vzero-head")

    async def close(self) -> None:
        """Stop all threads but those of the store."""
        await self._features.close()
        await self._batcher.close()
        self._workers.shutdown()

    async def values(
        self,
        policy_id: str,
        prompts: Sequence[str],
        *,
        estimator: EstimatorName = EstimatorName.AUTO,
        as_of_step: int | None = None,
        min_version: int | None = None,
    ) -> Prediction:
        """Values of prompts under a policy, in order.

        Args:
            policy_id: The policy.
            prompts: The prompts, at least one.
            estimator: What computes the values.
            as_of_step: Condition only on outcomes whose step is set and at most this.
            min_version: Wait until the policy's log has this version.

        Raises:
            UnknownPolicyError: The policy has no outcome.
            EstimatorNotLoadedError: This server has not loaded the estimator.
            OverloadedError: Too many prompts wait for the backbone.
        """
        if estimator not in self._estimators:
            raise EstimatorNotLoadedError(f"estimator {estimator} is not loaded on this server")
        head = await self._store.head(policy_id, min_version=min_version)
        window = await self._windows.get(policy_id, head, as_of_step)
        chosen: Estimator = self._prior
        if len(window) >= self._min_context_rows:
            chosen = self._estimators[estimator]
        queries = await self._features.of_prompts(prompts)
        values = await asyncio.get_running_loop().run_in_executor(
            self._workers, chosen.estimate, window, queries
        )
        return Prediction(values, window)

    async def update(self, policy_id: str, outcomes: Sequence[Outcome]) -> Appended:
        """Append outcomes; returns when they are durable and later values rest on them.

        Raises:
            StorageFullError: There is no space; nothing was stored.
        """
        appended = await self._store.append(policy_id, outcomes)
        self._features.warm(appended.prompts)
        return appended
