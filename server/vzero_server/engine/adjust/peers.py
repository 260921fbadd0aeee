"""Looks up the policies that tried the same prompts, and fits how they correct values."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from cachetools import LRUCache

from vzero_server.engine.adjust.peer_evidence import PeerEvidence
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.context.stale_while_revalidate import Result, StaleWhileRevalidateCache
from vzero_server.engine.estimators.base import Correction, Estimator
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Peer, PeerRewards, PolicyVersion
from vzero_server.types import FloatArray, IntArray
from vzero_server.values.evidence import ContextEvidence
from vzero_server.values.peer_correction import PeerCorrection, fit_to_context

# Prompts per context whose peer rewards are kept in memory.
_CACHED_PROMPTS = 1024
# Seconds a call waits for the peers of a context that was not used lately: they are read from
# disk, and a policy's first answer must not wait for that.
_PATIENCE = 0.05
# Share of a core that looking up the peers of one policy may cost.
_SHARE = 0.02
# Contexts being fitted whose peers are looked up in the meantime.
_PREFETCHED = 256


@dataclass(frozen=True, eq=False, slots=True)
class _Lookup:
    """The peers of a policy, as the log named them.

    Attributes:
        peers: The other policies that tried most of its prompts.
        rewards: Their rewards on these prompts; None without peers.
        changes: Of the store, when the lookup began.
        deletions: Likewise.
        began: On the monotonic clock.
    """

    peers: Sequence[Peer]
    rewards: PeerRewards | None
    changes: int
    deletions: int
    began: float


@dataclass(eq=False, slots=True)
class _ContextPeers:
    """The peers of one context; the correction is None if they change nothing.

    Attributes:
        correction: Fitted to the context.
        keys: Keys of the peers, ``[P]``.
        changes: Of the store, when they were looked up.
        deletions: Likewise.
        rewards: Rewards of the peers by digest of a prompt, ``[P]``; None for a prompt that no
            peer knows.
    """

    correction: PeerCorrection | None
    keys: tuple[int, ...]
    changes: int
    deletions: int
    rewards: LRUCache[bytes, FloatArray | None] = field(
        default_factory=lambda: LRUCache(_CACHED_PROMPTS)
    )


class Peers:
    """Finds the policies that tried the same prompts, and their rewards.

    A lookup is used for some seconds, whatever is reported in the meantime, also for later
    contexts of the policy that are about as long. Nothing of a deleted policy is used.

    A call does not wait long for a first lookup: it is answered without peers, and later calls
    with them. If nothing may be out of date (``refresh`` 0), calls wait.

    All methods belong to one event loop.
    """

    def __init__(
        self, store: OutcomeStore, *, limit: int, refresh: float, worker: Executor
    ) -> None:
        """Set up.

        Args:
            store: The log.
            limit: Most peers of a policy.
            refresh: Seconds after which peers are looked up again, if anything changed.
            worker: Runs what takes too long for the event loop.
        """
        self._store = store
        self._limit = limit
        self._refresh = refresh
        self._worker = worker
        self._contexts: StaleWhileRevalidateCache[tuple[int, str], _ContextPeers] = (
            StaleWhileRevalidateCache(share=_SHARE if refresh else 0.0, lifetime=refresh)
        )
        self._prefetched: LRUCache[int, tuple[IntArray, asyncio.Task[_Lookup]]] = LRUCache(
            _PREFETCHED
        )

    def prefetch(self, policy: PolicyVersion, estimator: Estimator, window: ContextWindow) -> None:
        """Start to look up the peers of a policy while its context is fitted.

        Args:
            policy: The policy.
            estimator: The estimator that is about to read the window.
            window: The window.
        """
        rows = len(window)
        if estimator.rows_needed is not None:
            rows = min(rows, estimator.rows_needed)
        if not rows or Correction.PEERS not in estimator.corrections:
            return
        if self._contexts.covers((policy.key, estimator.name), rows):
            return
        prompts = window.prompts[len(window) - rows :]
        task = asyncio.create_task(self._look_up(policy.key, prompts))
        # Retrieves the exception, which no caller may be waiting for.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._prefetched[policy.key] = prompts, task

    async def evidence(
        self, contexts: Sequence[CachedContext], digests: Sequence[bytes]
    ) -> list[PeerEvidence | None]:
        """Return the peers' evidence on prompts under each context; None if it changes nothing.

        The log is queried once, however many contexts there are.

        Args:
            contexts: The contexts.
            digests: Of the prompts.
        """
        context_peers = await self._peers_of(contexts)
        correcting = [
            peers for peers in context_peers if peers is not None and peers.correction is not None
        ]
        cached = [
            {digest: peers.rewards[digest] for digest in digests if digest in peers.rewards}
            for peers in correcting
        ]
        missing_digests: set[bytes] = set()
        keys: set[int] = set()
        for peers, cached_rewards in zip(correcting, cached, strict=True):
            if missing := [digest for digest in digests if digest not in cached_rewards]:
                missing_digests.update(missing)
                keys.update(peers.keys)
        read: dict[bytes, dict[int, float]] = {}
        if missing_digests:
            rows = await self._store.peer_rewards_by_digest(sorted(keys), sorted(missing_digests))
            for digest, key, reward in rows:
                read.setdefault(digest, {})[key] = reward
        evidence = {
            id(peers): _evidence(peers, digests, cached_rewards, read)
            for peers, cached_rewards in zip(correcting, cached, strict=True)
        }
        return [evidence.get(id(peers)) for peers in context_peers]

    async def _peers_of(self, contexts: Sequence[CachedContext]) -> list[_ContextPeers | None]:
        """The peers of each context; None while looking them up takes too long."""
        ready = [self._ready(context) for context in contexts]
        lookups = [
            self._context_peers(context, context.fitted.evidence)
            for context, is_ready in zip(contexts, ready, strict=True)
            if not is_ready and context.fitted.evidence is not None
        ]
        # A task takes longer than a result that is there.
        looked_up = iter(
            [await lookups[0]] if len(lookups) == 1 else await asyncio.gather(*lookups)
        )
        context_peers: list[_ContextPeers | None] = []
        for context, is_ready in zip(contexts, ready, strict=True):
            result = self._contexts.peek(context) if is_ready else None
            cached = result.value if result else None
            context_peers.append(cached if is_ready else next(looked_up))
        return context_peers

    def _ready(self, context: CachedContext) -> bool:
        """Whether nothing need be looked up for a context."""
        if Correction.PEERS not in context.estimator.corrections:
            return True
        result = self._contexts.peek(context)
        if result is not None and self._valid(result):
            return True
        evidence = context.fitted.evidence
        return evidence is None or not evidence.rewards.size

    async def _context_peers(
        self, context: CachedContext, evidence: ContextEvidence
    ) -> _ContextPeers | None:
        return await self._contexts.get(
            (context.policy.key, context.estimator.name),
            context,
            len(evidence.rewards),
            lambda: self._fit(context.policy.key, evidence),
            valid=self._valid,
            patience=_PATIENCE if self._refresh > 0 else None,
        )

    def _valid(self, result: Result[_ContextPeers]) -> bool:
        peers = result.value
        if peers.deletions != self._store.deletions:
            return False
        return peers.changes == self._store.changes or result.fresh

    async def _fit(self, policy_key: int, evidence: ContextEvidence) -> _ContextPeers:
        lookup = await self._lookup(policy_key, evidence.prompts)
        correction = None
        if lookup.rewards is not None:
            correction = await asyncio.get_running_loop().run_in_executor(
                self._worker, _fit_correction, evidence, lookup.peers, lookup.rewards
            )
        keys = tuple(peer.key for peer in lookup.peers)
        return _ContextPeers(correction, keys, lookup.changes, lookup.deletions)

    async def _lookup(self, policy_key: int, prompts: IntArray) -> _Lookup:
        """The peers of a policy on prompts, which may have been prefetched."""
        prefetched_prompts, task = self._prefetched.pop(policy_key, (None, None))
        if (
            prefetched_prompts is not None
            and task is not None
            and np.array_equal(prefetched_prompts, prompts)
        ):
            with contextlib.suppress(Exception):
                lookup = await task
                recent = time.monotonic() - lookup.began < self._refresh
                unchanged = recent or lookup.changes == self._store.changes
                if unchanged and lookup.deletions == self._store.deletions:
                    return lookup
        return await self._look_up(policy_key, prompts)

    async def _look_up(self, policy_key: int, prompts: IntArray) -> _Lookup:
        began = time.monotonic()
        changes, deletions = self._store.changes, self._store.deletions
        prompt_keys = prompts.tolist()
        peers = await self._store.find_peers(policy_key, prompt_keys, self._limit)
        rewards = None
        if peers:
            rewards = await self._store.peer_rewards([peer.key for peer in peers], prompt_keys)
        return _Lookup(peers, rewards, changes, deletions, began)


def _evidence(
    peers: _ContextPeers,
    digests: Sequence[bytes],
    cached: dict[bytes, FloatArray | None],
    read: Mapping[bytes, Mapping[int, float]],
) -> PeerEvidence | None:
    """The rewards of the peers on prompts, as cached or as just read."""
    assert peers.correction is not None
    for digest in digests:
        if digest not in cached:
            by_key = read.get(digest, {})
            column = None
            if not by_key.keys().isdisjoint(peers.keys):
                column = np.array([by_key.get(key, np.nan) for key in peers.keys])
            cached[digest] = peers.rewards[digest] = column
    rewards = np.full((len(peers.keys), len(digests)), np.nan)
    known = False
    for position, digest in enumerate(digests):
        if (column := cached[digest]) is not None:
            rewards[:, position] = column
            known = True
    return PeerEvidence(peers.correction, rewards) if known else None


def _fit_correction(
    evidence: ContextEvidence, peers: Sequence[Peer], peer_rewards: PeerRewards
) -> PeerCorrection | None:
    """Lay out the rewards of peers by context row, and fit the correction."""
    prompts, columns = np.unique(evidence.prompts, return_inverse=True)
    keys = np.array([peer.key for peer in peers])
    order = np.argsort(keys)
    by_prompt = np.full((len(peers), len(prompts)), np.nan)
    rows = order[np.searchsorted(keys, peer_rewards.policies, sorter=order)]
    by_prompt[rows, np.searchsorted(prompts, peer_rewards.prompts)] = peer_rewards.rewards
    means = [(peer.reward_sum + 1.0) / (peer.outcomes + 2.0) for peer in peers]
    return fit_to_context(evidence, by_prompt[:, columns], np.array(means))
