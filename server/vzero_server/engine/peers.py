"""What other policies of this server say of a context and of the prompts asked for."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from cachetools import LRUCache

from vzero_server.contexts.peers import Peer
from vzero_server.contexts.store import ContextStore
from vzero_server.engine.encoded import Encoded
from vzero_server.engine.estimators.estimator import Estimator
from vzero_server.engine.estimators.in_context import Correction, Known, correction
from vzero_server.engine.value import Array

# Prompts of a context whose peers' rewards are kept in memory.
_KEPT = 1024
# Policies whose latest view is kept, and how much longer a context may be than that of a view
# that is used for it.
_POLICIES, _GROWN = 4096, 1.25
# Seconds a call waits for what peers say of a context nobody asked about lately: that is read
# from the disk, and a policy's first answer must not wait for it.
_PATIENCE = 0.05
# Reading what peers say of a context is repeated so rarely that it costs this share of a core.
_SHARE = 0.02


@dataclass(eq=False, slots=True)
class _View:
    """A context as its peers see it; None where they have nothing to say."""

    estimator: Estimator
    rows: int
    correction: Correction | None
    peers: tuple[int, ...]
    changes: int
    deletions: int
    good_until: float
    # Rewards of the peers on prompts by digest, ``[P]``; None for a prompt none of them knows.
    rewards: LRUCache[bytes, Array | None] = field(default_factory=lambda: LRUCache(_KEPT))


@dataclass(frozen=True, slots=True)
class Hearsay:
    """How peers correct values, and what they earned on the prompts asked for.

    Attributes:
        correction: Fitted on the context.
        rewards: Rewards of the peers, ``[P, m]``, NaN where one does not know a prompt.
    """

    correction: Correction
    rewards: Array


class Peers:
    """Finds the policies that tried the same prompts, and what they earned.

    What was read is used for some seconds, whatever is reported meanwhile, for the policy's
    further contexts too while they are about as long; of a policy that was deleted nothing is
    used any more.

    A call does not wait long for a first reading: it is answered without, and later ones with
    it. Where nothing may be out of date (``refresh`` 0), calls wait.

    All methods belong to one event loop.
    """

    def __init__(self, store: ContextStore, *, most: int, refresh: float, worker: Executor) -> None:
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
        self._views: WeakKeyDictionary[Encoded, asyncio.Task[_View]] = WeakKeyDictionary()
        self._latest: LRUCache[int, asyncio.Task[_View]] = LRUCache(_POLICIES)

    async def hearsay(
        self, policy_key: int, encoded: Encoded, digests: Sequence[bytes]
    ) -> Hearsay | None:
        """What peers say of prompts, by digest, under a context; None if it changes nothing."""
        known = encoded.context
        if not isinstance(known, Known) or not known.rewards.size:
            return None
        view = await self._view(policy_key, encoded, known)
        if view is None or view.correction is None:
            return None
        missing = [digest for digest in dict.fromkeys(digests) if digest not in view.rewards]
        found = {digest: view.rewards[digest] for digest in digests if digest in view.rewards}
        if missing:
            rows = await self._store.peer_rewards_by_digest(view.peers, missing)
            fetched: dict[bytes, Array | None] = dict.fromkeys(missing)
            position = {key: i for i, key in enumerate(view.peers)}
            for digest, key, reward in rows:
                column = fetched[digest]
                if column is None:
                    column = fetched[digest] = np.full(len(view.peers), np.nan)
                column[position[key]] = reward
            view.rewards.update(fetched)
            found |= fetched
        if all(column is None for column in found.values()):
            return None
        unknown = np.full(len(view.peers), np.nan)
        columns = [found[digest] for digest in digests]
        rewards = np.stack([unknown if column is None else column for column in columns], axis=1)
        return Hearsay(view.correction, rewards)

    def ready(self, encoded: Encoded, digests: Sequence[bytes]) -> bool:
        """Whether ``hearsay`` would answer from memory."""
        known = encoded.context
        if not isinstance(known, Known) or not known.rewards.size:
            return True
        task = self._views.get(encoded)
        if task is None or not task.done() or self._outdated(task):
            return False
        view = task.result()
        return view.correction is None or all(digest in view.rewards for digest in digests)

    async def _view(self, policy_key: int, encoded: Encoded, known: Known) -> _View | None:
        """What peers say of the context; None while that takes longer than a caller waits."""
        task = self._views.get(encoded) or self._of_an_earlier(policy_key, encoded, known)
        if task is None or (task.done() and self._outdated(task)):
            task = asyncio.create_task(self._read(policy_key, encoded.estimator, known))
            # Whoever waits for it may have gone.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._latest[policy_key] = task
        self._views[encoded] = task
        if self._refresh > 0 and not task.done():
            await asyncio.wait([task], timeout=_PATIENCE)
            return task.result() if task.done() else None
        # Shielded: others may wait for the same reading.
        return await asyncio.shield(task)

    def _of_an_earlier(
        self, policy_key: int, encoded: Encoded, known: Known
    ) -> "asyncio.Task[_View] | None":
        """What was read for an earlier context of the policy, if it will do."""
        task = self._latest.get(policy_key)
        if task is None or not task.done() or task.cancelled() or task.exception():
            return None
        view = task.result()
        recent = time.monotonic() < view.good_until and view.estimator is encoded.estimator
        return task if recent and len(known.rewards) <= _GROWN * view.rows else None

    def _outdated(self, task: "asyncio.Task[_View]") -> bool:
        if task.cancelled() or task.exception():
            return True
        view = task.result()
        if view.deletions != self._store.deletions:
            return True
        return view.changes != self._store.changes and time.monotonic() >= view.good_until

    async def _read(self, policy_key: int, estimator: Estimator, known: Known) -> _View:
        began = time.monotonic()
        changes, deletions = self._store.changes, self._store.deletions
        prompts = known.prompts.tolist()
        peers = await self._store.peers(policy_key, prompts, self._most)
        keys = tuple(peer.key for peer in peers)
        fitted = None
        if peers:
            rows = await self._store.peer_rewards(keys, prompts)
            fitted = await asyncio.get_running_loop().run_in_executor(
                self._worker, _fitted, known, peers, rows
            )
        now = time.monotonic()
        good_until = now + self._refresh + (now - began) / _SHARE * (self._refresh > 0)
        return _View(estimator, len(known.rewards), fitted, keys, changes, deletions, good_until)


def _fitted(
    known: Known, peers: Sequence[Peer], rows: Sequence[tuple[int, int, float]]
) -> Correction | None:
    position = {peer.key: i for i, peer in enumerate(peers)}
    prompts, columns = np.unique(known.prompts, return_inverse=True)
    place = {int(prompt): i for i, prompt in enumerate(prompts)}
    by_prompt = np.full((len(peers), len(prompts)), np.nan)
    for prompt, peer, reward in rows:
        by_prompt[position[peer], place[prompt]] = reward
    means = [(peer.reward_sum + 1.0) / (peer.outcomes + 2.0) for peer in peers]
    return correction(known, by_prompt[:, columns], np.array(means))
