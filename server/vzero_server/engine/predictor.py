"""The one door: values of prompts under a policy."""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

from vzero_server.decisions.ranking import Label
from vzero_server.engine.adjust.fleet import FleetCalibrations
from vzero_server.engine.adjust.history import Memory, Remembered, remembering
from vzero_server.engine.adjust.peers import PeerEvidence, Peers
from vzero_server.engine.context.context_cache import (
    CachedContext,
    ContextCache,
    EstimatorName,
    Opened,
)
from vzero_server.engine.context.window import Summary
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.estimators.batcher import EstimatorBatcher
from vzero_server.errors import EstimatorNotLoadedError
from vzero_server.observability.liveness import Monitored
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import own_trace
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Appended, Outcome, PolicyVersion, prompt_digest
from vzero_server.types import Features
from vzero_server.values.history import SHARED, Dynamics
from vzero_server.values.values import Values

# What AUTO means: the first of these that is loaded.
_PREFERENCE = (EstimatorName.ICL, EstimatorName.TABPFN, EstimatorName.KNN)
# Past outcomes that take longer to combine than the event loop may halt.
_MANY_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Prediction:
    """Values, the outcomes they rest on, and how many other policies corrected them."""

    values: Values
    context: Summary
    peers: int = 0


@dataclass(frozen=True, slots=True)
class _Asking:
    """What is asked of contexts.

    Attributes:
        queries: The prompts, ``[n, columns]``.
        asked: Digests by which peers are asked for them; None to ask none.
        remembered: Digests by which their histories are looked up; None to look up none.
        as_of_step: Histories end with this step.
        jointly: The contexts are a fleet, read together.
    """

    queries: Features
    asked: Sequence[bytes] | None
    remembered: Sequence[bytes] | None
    as_of_step: int | None = None
    jointly: bool = False


class Predictor:
    """Computes values and takes outcomes in; all methods belong to one event loop.

    Attributes:
        monitored: What must work for it to answer.
    """

    def __init__(
        self,
        store: OutcomeStore,
        features: FeatureCache,
        contexts: ContextCache,
        peers: Peers | None,
        heads: EstimatorBatcher,
        loaded: Collection[EstimatorName],
        metrics: Metrics | None = None,
        monitored: Sequence[Monitored] = (),
        joint: FleetCalibrations | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            store: What is known of policies.
            features: Feature vectors of prompts.
            contexts: Contexts as estimators have read them.
            peers: What other policies say; None to ask none.
            heads: The queue in front of the estimators.
            loaded: The estimators there are.
            metrics: Where it is measured.
            monitored: Further parts that must work for it to answer.
            joint: Reads fleets together; None to read each policy by itself.
        """
        self._store = store
        self._features = features
        self._contexts = contexts
        self._peers = peers
        self._joint = joint
        self._memory = Memory(store)
        self._heads = heads
        self._metrics = metrics or Metrics()
        self.monitored = (*features.monitored, *heads.monitored, *monitored)
        self._names = {name: name for name in loaded}
        self._names[EstimatorName.AUTO] = next(name for name in _PREFERENCE if name in loaded)

    @property
    def estimators(self) -> tuple[str, ...]:
        """Names of the estimators that are loaded, in order of preference."""
        return tuple(name.lower() for name in _PREFERENCE if name in self._names)

    async def values(
        self,
        policy_id: str,
        prompts: Sequence[str],
        *,
        estimator: EstimatorName = EstimatorName.AUTO,
        as_of_step: int | None = None,
        min_version: int | None = None,
        with_peers: bool = True,
        with_history: bool = True,
    ) -> Prediction:
        """Values of prompts under a policy, in order.

        Args:
            policy_id: The policy.
            prompts: The prompts, at least one.
            estimator: What computes the values.
            as_of_step: Condition only on outcomes whose step is set and at most this.
            min_version: Wait until the policy's log has this version.
            with_peers: Use what other policies earned on the same prompts; with
                ``as_of_step`` they are never asked, since their steps are of other runs.
            with_history: Combine values with what this policy earned on the prompts before.

        Raises:
            UnknownPolicyError: The policy has no outcome.
            EstimatorNotLoadedError: This server has not loaded the estimator.
            OverloadedError: Too many prompts wait for the backbone.
        """
        name = self._loaded(estimator)
        head = await self._store.policy_version(policy_id, min_version=min_version)
        digests = [prompt_digest(prompt) for prompt in prompts]
        asked = digests if with_peers and as_of_step is None else None
        remembered = digests if with_history else None
        kept = self._contexts.peek(head, as_of_step, name, min_version)
        if kept is not None:
            encoded, queries = kept, await self._features.of_prompts(prompts)
        else:
            reading = self._contexts.get(
                policy_id, head, as_of_step, name, min_version, opened=self._opened(asked)
            )
            encoded, queries = await asyncio.gather(reading, self._features.of_prompts(prompts))
        asking = _Asking(queries, asked, remembered, as_of_step)
        return (await self._answers([(head, encoded)], asking))[0]

    async def values_of_many(
        self,
        policy_ids: Sequence[str],
        prompts: Sequence[str],
        *,
        estimator: EstimatorName = EstimatorName.AUTO,
        with_peers: bool = True,
        with_history: bool = True,
        labels: Sequence[Label] | None = None,
    ) -> list[Prediction]:
        """Values of prompts under several policies, one prediction each, in order.

        The prompts are embedded once, and the policies' questions answered together. Of
        prompts on which peers have nothing to say the policies are read jointly
        (``decisions.joint``), so that values can differ from those of ``values``.

        Args:
            policy_ids: The policies.
            prompts: The prompts, at least one.
            estimator: What computes the values.
            with_peers: As in ``values``; without them each policy is read by itself.
            with_history: As in ``values``.
            labels: What the estimator reads instead of the rewards of each policy's context;
                values are then of those labels, and neither peers nor histories, which know
                rewards, are asked.

        Raises:
            UnknownPolicyError: A policy is unknown.
            EstimatorNotLoadedError: This server has not loaded the estimator.
            OverloadedError: Too many prompts wait for the backbone.
        """
        name = self._loaded(estimator)
        heads = await self._store.policy_versions(policy_ids)
        own: Sequence[Label | None] = labels or [None] * len(heads)
        queries = await self._features.of_prompts(prompts)
        digests = [prompt_digest(prompt) for prompt in prompts]
        asked = digests if with_peers and labels is None else None
        remembered = digests if with_history and labels is None else None

        async def read(policy_id: str, head: PolicyVersion, label: Label | None) -> CachedContext:
            opened = self._opened(asked)
            return await self._contexts.get(policy_id, head, None, name, label=label, opened=opened)

        # A task takes longer than a context that is there.
        kept = [
            self._contexts.peek(head, None, name, label=label)
            for head, label in zip(heads, own, strict=True)
        ]
        lacking = [
            read(policy_id, head, label)
            for policy_id, head, label, there in zip(policy_ids, heads, own, kept, strict=True)
            if there is None
        ]
        rest = iter(await asyncio.gather(*lacking) if lacking else ())
        contexts = [(head, there or next(rest)) for head, there in zip(heads, kept, strict=True)]
        return await self._answers(
            contexts, _Asking(queries, asked, remembered, jointly=asked is not None)
        )

    def _loaded(self, estimator: EstimatorName) -> EstimatorName:
        name = self._names.get(estimator)
        if name is None:
            raise EstimatorNotLoadedError(f"estimator {estimator} is not loaded on this server")
        return name

    async def _answers(
        self, contexts: Sequence[tuple[PolicyVersion, CachedContext]], asking: "_Asking"
    ) -> list[Prediction]:
        """Values of prompts under each of some policies and their contexts, in order."""
        hearsays = await self._hearsays(contexts, asking.asked)
        pairs = zip(contexts, hearsays, strict=True)
        values = await self._heads.values_of_all(
            [(encoded, hearsay) for (_, encoded), hearsay in pairs], asking.queries
        )
        if asking.jointly and self._joint is not None:
            values = await self._joint.together(contexts, hearsays, values, asking.queries)
        if asking.remembered is not None:
            values = await self._remembering(contexts, values, asking.remembered, asking.as_of_step)
        predictions = []
        for (head, encoded), hearsay, own in zip(contexts, hearsays, values, strict=True):
            self._metrics.context_lag.observe(max(0, head.version - encoded.summary.version))
            peers = len(hearsay.rewards) if hearsay else 0
            predictions.append(Prediction(own, encoded.summary, peers))
        return predictions

    async def _hearsays(
        self,
        contexts: Sequence[tuple[PolicyVersion, CachedContext]],
        digests: Sequence[bytes] | None,
    ) -> list[PeerEvidence | None]:
        """What peers say of prompts under each context; nothing, if there are no digests."""
        peers = self._peers
        if peers is None or digests is None:
            return [None] * len(contexts)
        return await peers.hearsays([(head.key, encoded) for head, encoded in contexts], digests)

    def _opened(self, digests: Sequence[bytes] | None) -> Opened | None:
        """Whom to tell of a context that is being read, if peers are to be asked of it."""
        return self._peers.foresee if self._peers is not None and digests is not None else None

    async def _remembering(
        self,
        contexts: Sequence[tuple[PolicyVersion, CachedContext]],
        values: Sequence[Values],
        digests: Sequence[bytes],
        as_of_step: int | None,
    ) -> list[Values]:
        """Values under each context combined with the histories of their prompts."""
        pasts: list[Remembered] = []
        dynamics: list[Dynamics] = []
        histories = await self._memory.histories(contexts, digests, as_of_step)
        for (head, encoded), own in zip(contexts, histories, strict=True):
            pasts.extend(own)
            found = SHARED
            if any(one.rows for one in own):
                found = await self._memory.dynamics(head, encoded, as_of_step)
            dynamics.extend([found] * len(own))
        rows = sum(len(one.rows) for one in pasts)
        if not rows:
            return list(values)
        joined = Values.joined(values)
        if rows > _MANY_ROWS:
            combined = await asyncio.to_thread(remembering, joined, pasts, dynamics)
        else:
            combined = remembering(joined, pasts, dynamics)
        if len(values) == 1:
            return [combined]
        ends = list(accumulate(len(own.mean) for own in values))
        starts = [0, *ends[:-1]]
        return [
            combined.part(slice(start, end), own.basis)
            for start, end, own in zip(starts, ends, values, strict=True)
        ]

    async def update(self, policy_id: str, outcomes: Sequence[Outcome]) -> Appended:
        """Append outcomes; returns when they are durable and later values rest on them.

        Raises:
            StorageFullError: There is no space; nothing was stored.
        """
        began = time.monotonic()
        with own_trace("append"):
            appended = await self._store.append(policy_id, outcomes)
        self._metrics.append_seconds.observe(time.monotonic() - began)
        self._metrics.accepted.inc(appended.accepted)
        self._metrics.duplicates.inc(appended.duplicates)
        self._features.warm(appended.new_prompts)
        return appended
