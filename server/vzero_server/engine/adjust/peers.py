"""What other policies of this server say of a context and of the prompts asked for."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from cachetools import LRUCache

from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.context.stale_while_revalidate import Reading, StaleWhileRevalidateCache
from vzero_server.engine.context.window import ContextWindow
from vzero_server.engine.estimators.base import Estimator
from vzero_server.engine.estimators.icl import Correction, InContext, Known, correction
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Peer, PeerRewards
from vzero_server.types import FloatArray, IntArray

# Prompts of a context whose peers' rewards are kept in memory.
_KEPT = 1024
# Seconds a call waits for what peers say of a context nobody asked about lately: that is read
# from the disk, and a policy's first answer must not wait for it.
_PATIENCE = 0.05
# Reading what peers say of a context is repeated so rarely that it costs this share of a core.
_SHARE = 0.02
# Contexts that are being read, whose peers are looked up meanwhile.
_FORESEEN = 256


@dataclass(frozen=True, eq=False, slots=True)
class _Record:
    """What the log says of the peers of a policy, and when it was asked.

    Attributes:
        peers: The other policies that tried most of its prompts.
        rewards: What they earned on these.
        changes: Of the store, when it was read.
        deletions: The same.
        asked_at: On the monotonic clock.
    """

    peers: Sequence[Peer]
    rewards: PeerRewards | None
    changes: int
    deletions: int
    asked_at: float


@dataclass(eq=False, slots=True)
class _View:
    """A context as its peers see it; None where they have nothing to say."""

    correction: Correction | None
    peers: tuple[int, ...]
    changes: int
    deletions: int
    # Rewards of the peers on prompts by digest, ``[P]``; None for a prompt none of them knows.
    rewards: LRUCache[bytes, FloatArray | None] = field(default_factory=lambda: LRUCache(_KEPT))


@dataclass(frozen=True, slots=True)
class PeerEvidence:
    """How peers correct values, and what they earned on the prompts asked for.

    Attributes:
        correction: Fitted on the context.
        rewards: PeerRewards of the peers, ``[P, m]``, NaN where one does not know a prompt.
    """

    correction: Correction
    rewards: FloatArray


class Peers:
    """Finds the policies that tried the same prompts, and what they earned.

    What was read is used for some seconds, whatever is reported meanwhile, for the policy's
    further contexts too while they are about as long; of a policy that was deleted nothing is
    used any more.

    A call does not wait long for a first reading: it is answered without, and later ones with
    it. Where nothing may be out of date (``refresh`` 0), calls wait.

    All methods belong to one event loop.
    """

    def __init__(self, store: OutcomeStore, *, most: int, refresh: float, worker: Executor) -> None:
        """Set up.

        Args:
            store: The log.
            most: Peers of a policy, at most.
            refresh: Seconds after which what was read is read again, if anything changed.
            worker: Runs what takes longer than the event loop may halt.
        """
        self._store = store
        self._most = most
        self._refresh = refresh
        self._worker = worker
        self._views: StaleWhileRevalidateCache[tuple[int, Estimator], _View] = (
            StaleWhileRevalidateCache(share=_SHARE if refresh else 0.0, lasting=refresh)
        )
        self._foreseen: LRUCache[int, tuple[IntArray, asyncio.Task[_Record]]] = LRUCache(_FORESEEN)

    def foresee(self, policy_key: int, estimator: Estimator, window: ContextWindow) -> None:
        """Look up the peers of a policy while its context is being read.

        Args:
            policy_key: The policy.
            estimator: Who reads it.
            window: What is being read.
        """
        if not isinstance(estimator, InContext):
            return
        prompts = estimator.prompts(window)
        rows = 0 if prompts is None else len(prompts)
        if prompts is None or not rows or self._views.stands_in((policy_key, estimator), rows):
            return
        task = asyncio.create_task(self._recorded(policy_key, prompts))
        # Nobody may ask for it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._foreseen[policy_key] = prompts, task

    async def hearsays(
        self, contexts: Sequence[tuple[int, CachedContext]], digests: Sequence[bytes]
    ) -> list[PeerEvidence | None]:
        """What peers say of prompts under each of some contexts; None if that changes nothing.

        The log is asked once, however many contexts there are.

        Args:
            contexts: Keys of policies, and their contexts.
            digests: Of the prompts.
        """
        views = await self._views_of(contexts)
        told = [view for view in views if view is not None and view.correction is not None]
        kept = [{d: view.rewards[d] for d in digests if d in view.rewards} for view in told]
        lacking: set[bytes] = set()
        keys: set[int] = set()
        for view, own in zip(told, kept, strict=True):
            if missing := [digest for digest in digests if digest not in own]:
                lacking.update(missing)
                keys.update(view.peers)
        earned: dict[bytes, dict[int, float]] = {}
        if lacking:
            rows = await self._store.peer_rewards_by_digest(sorted(keys), sorted(lacking))
            for digest, key, reward in rows:
                earned.setdefault(digest, {})[key] = reward
        pairs = zip(told, kept, strict=True)
        found = {id(view): _said(view, digests, own, earned) for view, own in pairs}
        return [found.get(id(view)) for view in views]

    async def _views_of(self, contexts: Sequence[tuple[int, CachedContext]]) -> list[_View | None]:
        """How peers see each context; None while that takes longer than a caller waits."""
        ready = [self._ready(encoded) for _, encoded in contexts]
        calls = [
            self._view(key, encoded)
            for (key, encoded), done in zip(contexts, ready, strict=True)
            if not done
        ]
        # A task takes longer than an answer that is there.
        read = iter([await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls))
        views: list[_View | None] = []
        for (_, encoded), done in zip(contexts, ready, strict=True):
            reading = self._views.peek(encoded) if done else None
            views.append(next(read) if not done else reading.value if reading else None)
        return views

    def _ready(self, encoded: CachedContext) -> bool:
        known = encoded.context
        if not isinstance(known, Known) or not known.rewards.size:
            return True
        reading = self._views.peek(encoded)
        return reading is not None and self._good(reading)

    async def _view(self, policy_key: int, encoded: CachedContext) -> _View | None:
        known = encoded.context
        return await self._views.get(
            (policy_key, encoded.estimator),
            encoded,
            len(known.rewards),
            lambda: self._read(policy_key, known),
            good=self._good,
            patience=_PATIENCE if self._refresh > 0 else None,
        )

    def _good(self, reading: Reading[_View]) -> bool:
        view = reading.value
        if view.deletions != self._store.deletions:
            return False
        return view.changes == self._store.changes or reading.recent

    async def _read(self, policy_key: int, known: Known) -> _View:
        record = await self._record(policy_key, known)
        fitted = None
        if record.rewards is not None:
            fitted = await asyncio.get_running_loop().run_in_executor(
                self._worker, _fitted, known, record.peers, record.rewards
            )
        keys = tuple(peer.key for peer in record.peers)
        return _View(fitted, keys, record.changes, record.deletions)

    async def _record(self, policy_key: int, known: Known) -> _Record:
        """What the log says of a context's peers, which may have been foreseen."""
        prompts, task = self._foreseen.pop(policy_key, (None, None))
        if prompts is not None and task is not None and np.array_equal(prompts, known.prompts):
            with contextlib.suppress(Exception):
                record = await task
                recent = time.monotonic() - record.asked_at < self._refresh
                same = record.deletions == self._store.deletions
                if same and (recent or record.changes == self._store.changes):
                    return record
        return await self._recorded(policy_key, known.prompts)

    async def _recorded(self, policy_key: int, prompts: IntArray) -> _Record:
        asked_at = time.monotonic()
        changes, deletions = self._store.changes, self._store.deletions
        keys = prompts.tolist()
        peers = await self._store.find_peers(policy_key, keys, self._most)
        rewards = None
        if peers:
            rewards = await self._store.peer_rewards([peer.key for peer in peers], keys)
        return _Record(peers, rewards, changes, deletions, asked_at)


def _said(
    view: _View,
    digests: Sequence[bytes],
    kept: dict[bytes, FloatArray | None],
    earned: Mapping[bytes, Mapping[int, float]],
) -> PeerEvidence | None:
    """What the peers of a view say of prompts: as it was kept, or else was read just now."""
    assert view.correction is not None
    for digest in digests:
        if digest not in kept:
            own = earned.get(digest, {})
            heard = not own.keys().isdisjoint(view.peers)
            column = np.array([own.get(key, np.nan) for key in view.peers]) if heard else None
            kept[digest] = view.rewards[digest] = column
    rewards = np.full((len(view.peers), len(digests)), np.nan)
    known = False
    for place, digest in enumerate(digests):
        if (column := kept[digest]) is not None:
            rewards[:, place] = column
            known = True
    return PeerEvidence(view.correction, rewards) if known else None


def _fitted(known: Known, peers: Sequence[Peer], earned: PeerRewards) -> Correction | None:
    prompts, columns = np.unique(known.prompts, return_inverse=True)
    keys = np.array([peer.key for peer in peers])
    order = np.argsort(keys)
    by_prompt = np.full((len(peers), len(prompts)), np.nan)
    places = order[np.searchsorted(keys, earned.policies, sorter=order)]
    by_prompt[places, np.searchsorted(prompts, earned.prompts)] = earned.rewards
    means = [(peer.reward_sum + 1.0) / (peer.outcomes + 2.0) for peer in peers]
    return correction(known, by_prompt[:, columns], np.array(means))
