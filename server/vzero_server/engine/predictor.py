"""Predicts values of prompts under policies, step by step."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from vzero_server.decisions.ranking import Relabelling
from vzero_server.engine.adjust.fleet import FleetCalibrations
from vzero_server.engine.adjust.history import HistoryCache
from vzero_server.engine.adjust.peer_evidence import PeerEvidence, apply_peers
from vzero_server.engine.adjust.peers import Peers
from vzero_server.engine.context.context_cache import CachedContext, ContextCache
from vzero_server.engine.context.relabelled import RelabelledContexts
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.estimators.base import Estimator
from vzero_server.engine.estimators.batcher import EstimatorBatcher
from vzero_server.engine.estimators.registry import LoadedEstimators
from vzero_server.engine.estimators.window import Summary
from vzero_server.engine.options import DEFAULTS, ReadOptions
from vzero_server.observability.liveness import Monitored
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import message_trace
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Appended, Outcome, PolicyVersion, prompt_digest
from vzero_server.types import Features
from vzero_server.values.beta import Values


@dataclass(frozen=True, slots=True)
class Prediction:
    """Values of prompts under one policy, and what they rest on.

    Attributes:
        values: Of the prompts, in order.
        context: The outcomes they rest on.
        peers: Number of other policies whose rewards corrected some of them.
    """

    values: Values
    context: Summary
    peers: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that a predictor puts together.

    Attributes:
        store: The log.
        feature_cache: Feature vectors of prompts.
        contexts: Fitted contexts.
        relabelled: Contexts fitted to labels instead of rewards.
        estimators: The estimators that are loaded.
        batcher: The queue in front of them.
        history: Histories of prompts.
        peers: Other policies; None to correct nothing by them.
        fleet: Calibrates fleets; None to leave their values as they are.
    """

    store: OutcomeStore
    feature_cache: FeatureCache
    contexts: ContextCache
    relabelled: RelabelledContexts
    estimators: LoadedEstimators
    batcher: EstimatorBatcher
    history: HistoryCache
    peers: Peers | None = None
    fleet: FleetCalibrations | None = None


class Predictor:
    """Computes values and takes outcomes in; all methods belong to one event loop.

    Attributes:
        estimators: Names of the loaded estimators; the first is the default.
        monitored: What must be alive for it to answer.
    """

    def __init__(
        self, parts: Parts, metrics: Metrics | None = None, monitored: Sequence[Monitored] = ()
    ) -> None:
        """Put the parts together.

        Args:
            parts: The parts.
            metrics: Counts outcomes and measures the lag of contexts.
            monitored: Further parts that must be alive for it to answer.
        """
        self._store = parts.store
        self._feature_cache = parts.feature_cache
        self._contexts = parts.contexts
        self._relabelled = parts.relabelled
        self._estimators = parts.estimators
        self._batcher = parts.batcher
        self._peers = parts.peers
        self._fleet = parts.fleet
        self._history = parts.history
        self._metrics = metrics or Metrics()
        self.estimators = tuple(parts.estimators)
        self.monitored = (*self._feature_cache.monitored, *self._batcher.monitored, *monitored)

    async def values(
        self, policy_id: str, prompts: Sequence[str], options: ReadOptions = DEFAULTS
    ) -> Prediction:
        """Return the values of prompts under one policy; see ``values_of_many``."""
        return (await self.values_of_many([policy_id], prompts, options))[0]

    async def values_of_many(
        self, policy_ids: Sequence[str], prompts: Sequence[str], options: ReadOptions = DEFAULTS
    ) -> list[Prediction]:
        """Return the values of prompts under several policies, one prediction each, in order.

        The policies are calibrated against each other on prompts that no peer knows, so that
        values can differ from those under each policy alone; see ``values.fleet``.

        Args:
            policy_ids: The policies.
            prompts: The prompts, at least one.
            options: How the values are computed.

        Raises:
            UnknownPolicyError: A policy is unknown.
            UnknownEstimatorError: No estimator has the name in ``options``.
            EstimatorNotLoadedError: This server has not loaded the estimator.
            OverloadedError: Too many prompts wait for the backbone.
        """
        estimator = self._estimators.resolve(options.estimator)
        policies = await self._resolve(policy_ids, options.min_version)
        digests = [prompt_digest(prompt) for prompt in prompts]
        # Steps of other policies belong to other runs.
        peers = self._peers if options.with_peers and options.as_of_step is None else None

        contexts, features = await self._read(policies, prompts, estimator, options, peers)
        evidence: list[PeerEvidence | None] = [None] * len(contexts)
        if peers is not None:
            evidence = await peers.evidence(contexts, digests)
        values = await self._batcher.predict(contexts, features)
        if peers is not None:
            values = apply_peers(values, evidence)
            if self._fleet is not None:
                values = await self._fleet.apply(contexts, evidence, values, features)
        if options.with_history:
            values = await self._history.apply(
                policies, contexts, values, digests, options.as_of_step
            )
        return self._predictions(policies, contexts, evidence, values)

    async def relabelled_values(
        self,
        policy_ids: Sequence[str],
        prompts: Sequence[str],
        relabellings: Sequence[Relabelling],
        options: ReadOptions = DEFAULTS,
    ) -> list[Prediction]:
        """Return estimates of rewards that include the cost, instead of success rates (Eq. 11).

        Neither peers nor histories, which know rewards, correct them.

        Args:
            policy_ids: The policies.
            prompts: The prompts, at least one.
            relabellings: Map of the rewards of each policy.
            options: Only the estimator counts.

        Raises:
            See ``values_of_many``.
        """
        estimator = self._estimators.resolve(options.estimator)
        policies = await self._resolve(policy_ids, None)
        features = await self._feature_cache.of_prompts(prompts)
        contexts = await asyncio.gather(
            *(
                self._relabelled.get(policy, estimator.name, relabelling)
                for policy, relabelling in zip(policies, relabellings, strict=True)
            )
        )
        values = await self._batcher.predict(contexts, features)
        return self._predictions(policies, contexts, [None] * len(contexts), values)

    async def update(self, policy_id: str, outcomes: Sequence[Outcome]) -> Appended:
        """Append outcomes, and return when they are durable and visible to later values.

        Raises:
            StorageFullError: There is no space; nothing was stored.
        """
        began = time.monotonic()
        with message_trace("append"):
            appended = await self._store.append(policy_id, outcomes)
        self._metrics.append_seconds.observe(time.monotonic() - began)
        self._metrics.accepted.inc(appended.accepted)
        self._metrics.duplicates.inc(appended.duplicates)
        self._feature_cache.warm(appended.new_prompts)
        return appended

    async def _resolve(
        self, policy_ids: Sequence[str], min_version: int | None
    ) -> list[PolicyVersion]:
        """The newest versions of policies, at least ``min_version``."""
        if min_version is None:
            return await self._store.policy_versions(policy_ids)
        return [
            await self._store.policy_version(policy_id, min_version=min_version)
            for policy_id in policy_ids
        ]

    async def _read(
        self,
        policies: Sequence[PolicyVersion],
        prompts: Sequence[str],
        estimator: Estimator,
        options: ReadOptions,
        peers: Peers | None,
    ) -> tuple[list[CachedContext], Features]:
        """The contexts of policies and the features of prompts, read side by side."""
        ready = [
            self._contexts.ready(
                policy,
                estimator.name,
                as_of_step=options.as_of_step,
                min_version=options.min_version,
            )
            for policy in policies
        ]
        missing = [
            self._context(policy, estimator, options.as_of_step, peers)
            for policy, context in zip(policies, ready, strict=True)
            if context is None
        ]
        if not missing:
            features = await self._feature_cache.of_prompts(prompts)
            return [context for context in ready if context is not None], features
        features, read = await asyncio.gather(
            self._feature_cache.of_prompts(prompts), asyncio.gather(*missing)
        )
        rest = iter(read)
        return [context or next(rest) for context in ready], features

    async def _context(
        self,
        policy: PolicyVersion,
        estimator: Estimator,
        as_of_step: int | None,
        peers: Peers | None,
    ) -> CachedContext:
        """A context that is not cached: its peers are looked up while it is fitted."""
        window = await self._contexts.window(policy, estimator.name, as_of_step=as_of_step)
        if peers is not None:
            peers.prefetch(policy, self._contexts.reader(window, estimator.name), window)
        return await self._contexts.fit(policy, estimator.name, window, as_of_step=as_of_step)

    def _predictions(
        self,
        policies: Sequence[PolicyVersion],
        contexts: Sequence[CachedContext],
        evidence: Sequence[PeerEvidence | None],
        values: Sequence[Values],
    ) -> list[Prediction]:
        predictions = []
        for policy, context, peer_evidence, policy_values in zip(
            policies, contexts, evidence, values, strict=True
        ):
            lag = max(0, policy.version - context.summary.version)
            self._metrics.context_lag.observe(lag)
            peers = len(peer_evidence.rewards) if peer_evidence else 0
            predictions.append(Prediction(policy_values, context.summary, peers))
        return predictions
