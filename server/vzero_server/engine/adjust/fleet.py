"""Values of one prompt under a whole fleet, read together."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import torch
from cachetools import LRUCache
from scipy.special import expit, logit

from vzero_server.engine.adjust.peers import PeerEvidence
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.estimators.icl import Known
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import PolicyVersion
from vzero_server.types import BoolArray, Features, Float32Array, FloatArray, IntArray
from vzero_server.values.fleet import Joint
from vzero_server.values.values import Basis, Values

# Fleets whose reading is kept, and prompts it is made from at most.
_FLEETS, _PROMPTS = 256, 1024
# Seconds a call waits for the first reading of its fleet, which takes longer than an answer.
_PATIENCE = 0.05
# Reading a fleet is repeated so rarely that it costs this share of a core.
_SHARE = 0.02
# Values that take longer than the event loop may halt.
_MANY = 1000
# A success rate at the very edge has no logit, and no Beta distribution.
_TINY, _EDGE = 1e-6, 1e-4


@dataclass(frozen=True, slots=True)
class _Reading:
    """What was fitted to a fleet, and to which versions of its contexts."""

    joint: Joint
    versions: tuple[int, ...]
    good_until: float


class FleetCalibrations:
    """Reads the policies of a ranking together: ``decisions.joint``, for contexts of a server.

    What was fitted to a fleet is used for some seconds, whatever is reported meanwhile, and then
    until it is fitted again. A call does not wait long for a first reading: it is answered
    without, and later ones with it. Where nothing may be out of date (``refresh`` 0), calls wait.

    All methods belong to one event loop.
    """

    def __init__(
        self,
        store: OutcomeStore,
        features: FeatureCache,
        *,
        pooled: int,
        refresh: float,
        worker: Executor,
    ) -> None:
        """Set up.

        Args:
            store: The log.
            features: Feature vectors of prompts.
            pooled: Leading columns of a feature vector that are the embedding.
            refresh: Seconds after which a fleet is read again, if anything changed.
            worker: Runs what takes longer than the event loop may halt.
        """
        self._store = store
        self._features = features
        self._pooled = pooled
        self._refresh = refresh
        self._worker = worker
        self._kept: LRUCache[tuple[int, ...], _Reading] = LRUCache(_FLEETS)
        self._reading: dict[tuple[int, ...], asyncio.Task[_Reading]] = {}

    async def together(
        self,
        contexts: Sequence[tuple[PolicyVersion, CachedContext]],
        hearsays: Sequence[PeerEvidence | None],
        values: Sequence[Values],
        queries: Features,
    ) -> list[Values]:
        """Values under each context, read jointly; others stay as they are.

        Those of a prompt that peers know and are a guide to stay: what they earned on the very
        prompt is more than what prompts of its kind can tell. So do values that are a prior, or
        of another estimator.

        Args:
            contexts: Of the policies, ``[P]``.
            hearsays: What peers say of the prompts under each, ``[P]``.
            values: Of the prompts under each, ``[P]`` of n.
            queries: The prompts, ``[n, columns]``.
        """
        known = [one.context for _, one in contexts]
        members = [
            position
            for position, one in enumerate(known)
            if isinstance(one, Known) and one.basis is Basis.ICL
        ]
        unheard = _unheard(hearsays, len(queries))
        if len(members) < 2 or not unheard.any():
            return list(values)
        reading = await self._of([contexts[position] for position in members])
        if reading is None or (reading.own, reading.kinds) == (1.0, 0.0):
            return list(values)
        levels = _levels([known[position] for position in members])
        own = [values[position] for position in members]
        embeddings = queries[:, : self._pooled].astype(np.float32)
        if len(own) * len(queries) > _MANY:
            joint = await asyncio.to_thread(_joint, reading, own, levels, embeddings, unheard)
        else:
            joint = _joint(reading, own, levels, embeddings, unheard)
        changed = dict(zip(members, joint, strict=True))
        return [changed.get(position, one) for position, one in enumerate(values)]

    async def _of(self, members: Sequence[tuple[PolicyVersion, CachedContext]]) -> Joint | None:
        """What is fitted to a fleet; None while that takes longer than a caller waits."""
        key = tuple(head.key for head, _ in members)
        versions = tuple(encoded.summary.version for _, encoded in members)
        kept = self._kept.get(key)
        fresh = kept is not None and (
            kept.versions == versions or time.monotonic() < kept.good_until
        )
        if kept is not None and fresh:
            return kept.joint
        task = self._reading.get(key)
        if task is None:
            contexts = [encoded.context for _, encoded in members]
            task = asyncio.create_task(self._read(key, versions, contexts))
            # Whoever waits for it may have gone.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            task.add_done_callback(lambda _: self._reading.pop(key, None))
            self._reading[key] = task
        if self._refresh == 0:
            # Shielded: others may wait for the same reading.
            return (await asyncio.shield(task)).joint
        if kept is not None:
            return kept.joint
        await asyncio.wait([task], timeout=_PATIENCE)
        # A ranking need not fail for want of this.
        failed = not task.done() or task.cancelled() or task.exception()
        return None if failed else task.result().joint

    async def _read(
        self, key: tuple[int, ...], versions: tuple[int, ...], known: Sequence[Known]
    ) -> _Reading:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        table = await loop.run_in_executor(self._worker, _Table.of, known)
        texts = await self._store.prompt_texts(table.prompts.tolist())
        there = np.array([prompt in texts for prompt in table.prompts.tolist()], np.bool_)
        joint = Joint(1.0, 0.0, (), ())
        if there.any():
            table = table.part(there)
            vectors = await self._features.of_prompts(
                [texts[prompt] for prompt in table.prompts.tolist()]
            )
            embeddings = vectors[:, : self._pooled].astype(np.float32)
            joint = await loop.run_in_executor(
                self._worker, Joint.fit, table.left_out, table.levels, table.rewards, embeddings
            )
        now = time.monotonic()
        lasting = self._refresh + (now - began) / _SHARE * (self._refresh > 0)
        self._kept[key] = reading = _Reading(joint, versions, now + lasting)
        return reading


@dataclass(frozen=True, slots=True)
class _Table:
    """What the policies of a fleet earned on the prompts that several of them know.

    Attributes:
        prompts: Keys, ``[N]``.
        left_out: Logits, ``[N, P]``, NaN where a policy does not know a prompt, or knows it by
            several outcomes: one of them left out, the others still say what it is.
        rewards: ``[N, P]``, NaN likewise.
        levels: Logits of the policies' mean rewards, ``[P]``.
    """

    prompts: IntArray
    left_out: FloatArray
    rewards: FloatArray
    levels: FloatArray

    @classmethod
    def of(cls, known: Sequence[Known]) -> "_Table":
        single = []
        for one in known:
            _, first, counts = np.unique(one.prompts, return_index=True, return_counts=True)
            single.append(first[counts == 1])
        every = np.concatenate([one.prompts[rows] for one, rows in zip(known, single, strict=True)])
        prompts, counts = np.unique(every, return_counts=True)
        # Of too many those that most policies know, the newest first.
        order = np.lexsort((-prompts, -counts))
        prompts = np.sort(prompts[order[: min(_PROMPTS, int((counts >= 2).sum()))]])
        left_out = np.full((len(prompts), len(known)), np.nan)
        rewards = left_out.copy()
        drift = torch.cat([one.encoded.drift for one in known]).double().cpu().numpy()
        for column, (one, rows) in enumerate(zip(known, single, strict=True)):
            rows = rows[np.isin(one.prompts[rows], prompts)]
            place = np.searchsorted(prompts, one.prompts[rows])
            left_out[place, column] = one.left_out[rows]
            rewards[place, column] = one.rewards[rows]
        return cls(prompts, left_out, rewards, _levels(known) - drift)

    def part(self, chosen: BoolArray) -> "_Table":
        """Some of the prompts."""
        return replace(
            self,
            prompts=self.prompts[chosen],
            left_out=self.left_out[chosen],
            rewards=self.rewards[chosen],
        )


def _unheard(hearsays: Sequence[PeerEvidence | None], prompts: int) -> BoolArray:
    """Of which prompts no peer has anything to say, ``[prompts]``."""
    unheard = np.ones(prompts, np.bool_)
    for hearsay in hearsays:
        if hearsay is not None:
            unheard &= np.isnan(hearsay.rewards).all(axis=0)
            if not unheard.any():
                break
    return unheard


def _levels(known: Sequence[Known]) -> FloatArray:
    """Logits of mean rewards, of the policies as they are now, ``[P]``."""
    levels: FloatArray = torch.cat([one.encoded.offset for one in known]).double().cpu().numpy()
    return levels


def _joint(
    reading: Joint,
    values: Sequence[Values],
    levels: FloatArray,
    embeddings: Float32Array,
    chosen: BoolArray,
) -> list[Values]:
    """Values ``[P]`` of n prompts read jointly where ``chosen``, ``[n]``."""
    before = Values.joined(values)
    means = before.mean.reshape(len(values), -1).T.clip(_TINY, 1.0 - _TINY)
    mean = expit(reading.logits(logit(means), levels, embeddings)).T.ravel()
    jointly = np.tile(chosen, len(values))
    after = Values(
        np.where(jointly, mean, before.mean),
        np.where(jointly, mean.clip(_EDGE, 1.0 - _EDGE), before.centre),
        before.effective_sample_size,
        before.basis,
    )
    prompts = len(chosen)
    return [
        after.part(slice(at * prompts, (at + 1) * prompts), one.basis)
        for at, one in enumerate(values)
    ]
