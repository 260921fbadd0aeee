"""Calibrates the values of a fleet's policies against each other."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from cachetools import LRUCache
from scipy.special import expit

from vzero_server.engine.adjust.peer_evidence import PeerEvidence
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.estimators.base import Correction
from vzero_server.storage.base import OutcomeStore
from vzero_server.types import BoolArray, Features, Float32Array, FloatArray, IntArray
from vzero_server.values.beta import PRIOR, Values, inside, logits
from vzero_server.values.evidence import ContextEvidence
from vzero_server.values.fleet import FleetCalibration

# Fleets whose calibration is kept, and most prompts that one is fitted to.
_FLEETS, _MOST_PROMPTS = 256, 1024
# Seconds a call waits for the first calibration of its fleet, which takes longer than an answer.
_PATIENCE = 0.05
# Share of a core that the calibrations of one fleet may cost.
_SHARE = 0.02
# Values (policies times prompts) that take too long for the event loop.
_MANY_VALUES = 1000
# Means are clipped here before they become logits.
_LEAST_MEAN = 1e-6


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A calibration, and the versions of the contexts it was fitted to."""

    calibration: FleetCalibration
    versions: tuple[int, ...]
    fresh_until: float


class FleetCalibrations:
    """Fits and applies ``values.fleet`` to the contexts of a ranking.

    A calibration is used for some seconds, whatever is reported in the meantime, and then until
    it has been fitted again. A call does not wait long for a first calibration: it is answered
    without, and later calls with it. If nothing may be out of date (``refresh`` 0), calls wait.

    All methods belong to one event loop.
    """

    def __init__(
        self,
        store: OutcomeStore,
        feature_cache: FeatureCache,
        *,
        embedding_columns: int,
        refresh: float,
        worker: Executor,
    ) -> None:
        """Set up.

        Args:
            store: The log.
            feature_cache: Feature vectors of prompts.
            embedding_columns: Leading columns of a feature vector that are the embedding.
            refresh: Seconds after which a fleet is calibrated again, if anything changed.
            worker: Runs what takes too long for the event loop.
        """
        self._store = store
        self._feature_cache = feature_cache
        self._embedding_columns = embedding_columns
        self._refresh = refresh
        self._worker = worker
        self._fitted: LRUCache[tuple[int, ...], _Fitted] = LRUCache(_FLEETS)
        self._fitting: dict[tuple[int, ...], asyncio.Task[_Fitted]] = {}

    async def apply(
        self,
        contexts: Sequence[CachedContext],
        peer_evidence: Sequence[PeerEvidence | None],
        values: Sequence[Values],
        features: Features,
    ) -> list[Values]:
        """Return values under each context, calibrated against each other.

        Values of a prompt that peers know stay as they are: rewards on the very prompt say more
        than those on its cluster. So do priors, and values of estimators without evidence.

        Args:
            contexts: Of the policies, ``[P]``.
            peer_evidence: Of the peers on the prompts, by context, ``[P]``.
            values: Of the prompts under each context, ``[P]`` of n.
            features: Of the prompts, ``[n, columns]``.
        """
        adjusted = list(values)
        unknown_to_peers = _unknown_to_peers(peer_evidence, len(features))
        if len(contexts) < 2 or not unknown_to_peers.any():
            return adjusted
        evidence = {
            position: context.fitted.evidence
            for position, context in enumerate(contexts)
            if Correction.FLEET in context.estimator.corrections
            and context.fitted.basis != PRIOR
            and context.fitted.evidence is not None
        }
        if len(evidence) < 2:
            return adjusted
        calibration = await self._calibration([contexts[position] for position in evidence])
        if calibration is None or calibration.is_identity:
            return adjusted
        members = [values[position] for position in evidence]
        levels = _levels(list(evidence.values()))
        embeddings = features[:, : self._embedding_columns].astype(np.float32)
        arguments = (calibration, members, levels, embeddings, unknown_to_peers)
        if len(members) * len(features) > _MANY_VALUES:
            loop = asyncio.get_running_loop()
            calibrated = await loop.run_in_executor(self._worker, _calibrate, *arguments)
        else:
            calibrated = _calibrate(*arguments)
        for position, member_values in zip(evidence, calibrated, strict=True):
            adjusted[position] = member_values
        return adjusted

    async def _calibration(self, members: Sequence[CachedContext]) -> FleetCalibration | None:
        """The calibration of a fleet; None while a first one takes too long."""
        key = tuple(context.policy.key for context in members)
        versions = tuple(context.summary.version for context in members)
        fitted = self._fitted.get(key)
        if fitted is not None and (
            fitted.versions == versions or time.monotonic() < fitted.fresh_until
        ):
            return fitted.calibration
        task = self._fitting.get(key)
        if task is None:
            task = asyncio.create_task(self._fit(key, versions, members))
            # Retrieves the exception, which no caller may be waiting for.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            task.add_done_callback(lambda _: self._fitting.pop(key, None))
            self._fitting[key] = task
        if self._refresh == 0:
            # Shielded, since other callers may wait for the same calibration.
            return (await asyncio.shield(task)).calibration
        if fitted is not None:
            return fitted.calibration
        await asyncio.wait([task], timeout=_PATIENCE)
        # A ranking does not fail for want of a calibration.
        failed = not task.done() or task.cancelled() or task.exception()
        return None if failed else task.result().calibration

    async def _fit(
        self,
        key: tuple[int, ...],
        versions: tuple[int, ...],
        members: Sequence[CachedContext],
    ) -> _Fitted:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        evidence = [context.fitted.evidence for context in members]
        table = await loop.run_in_executor(
            self._worker, _SharedPrompts.of, [rows for rows in evidence if rows is not None]
        )
        texts = await self._store.prompt_texts(table.prompts.tolist())
        stored = np.array([prompt in texts for prompt in table.prompts.tolist()], np.bool_)
        calibration = FleetCalibration()
        if stored.any():
            table = table.part(stored)
            vectors = await self._feature_cache.of_prompts(
                [texts[prompt] for prompt in table.prompts.tolist()]
            )
            calibration = await loop.run_in_executor(
                self._worker,
                FleetCalibration.fit,
                table.loo_logits,
                table.levels,
                table.rewards,
                vectors[:, : self._embedding_columns].astype(np.float32),
            )
        ended = time.monotonic()
        lifetime = self._refresh + (ended - began) / _SHARE * (self._refresh > 0)
        self._fitted[key] = fitted = _Fitted(calibration, versions, ended + lifetime)
        return fitted


@dataclass(frozen=True, slots=True)
class _SharedPrompts:
    """The evidence of a fleet on the prompts that several of its policies know.

    Attributes:
        prompts: Keys, ``[N]``.
        loo_logits: ``[N, P]``, NaN where a policy does not know a prompt, or has several outcomes
            of it: with one of them left out, the others still tell what it is.
        rewards: ``[N, P]``, NaN likewise.
        levels: Logits of the policies' mean rewards, ``[P]``.
    """

    prompts: IntArray
    loo_logits: FloatArray
    rewards: FloatArray
    levels: FloatArray

    @classmethod
    def of(cls, evidence: Sequence[ContextEvidence]) -> "_SharedPrompts":
        """Lay the evidence of P policies side by side."""
        single_rows = []
        for member in evidence:
            _, first, counts = np.unique(member.prompts, return_index=True, return_counts=True)
            single_rows.append(first[counts == 1])
        every_prompt = np.concatenate(
            [member.prompts[rows] for member, rows in zip(evidence, single_rows, strict=True)]
        )
        prompts, counts = np.unique(every_prompt, return_counts=True)
        # If there are too many, those that most policies know, the newest first.
        order = np.lexsort((-prompts, -counts))
        prompts = np.sort(prompts[order[: min(_MOST_PROMPTS, int((counts >= 2).sum()))]])
        loo_logits = np.full((len(prompts), len(evidence)), np.nan)
        rewards = loo_logits.copy()
        for column, (member, rows) in enumerate(zip(evidence, single_rows, strict=True)):
            shared_rows = rows[np.isin(member.prompts[rows], prompts)]
            positions = np.searchsorted(prompts, member.prompts[shared_rows])
            loo_logits[positions, column] = member.loo_logits[shared_rows]
            rewards[positions, column] = member.rewards[shared_rows]
        drift = np.array([member.drift for member in evidence])
        return cls(prompts, loo_logits, rewards, _levels(evidence) - drift)

    def part(self, chosen: BoolArray) -> "_SharedPrompts":
        """Some of the prompts."""
        return replace(
            self,
            prompts=self.prompts[chosen],
            loo_logits=self.loo_logits[chosen],
            rewards=self.rewards[chosen],
        )


def _unknown_to_peers(evidence: Sequence[PeerEvidence | None], prompts: int) -> BoolArray:
    """Which prompts no peer of any context knows, ``[prompts]``."""
    unknown = np.ones(prompts, np.bool_)
    for peer_evidence in evidence:
        if peer_evidence is not None:
            unknown &= ~peer_evidence.known
            if not unknown.any():
                break
    return unknown


def _levels(evidence: Sequence[ContextEvidence]) -> FloatArray:
    """Logits of mean rewards of the policies as they are now, ``[P]``."""
    return np.array([member.offset for member in evidence])


def _calibrate(
    calibration: FleetCalibration,
    values: Sequence[Values],
    levels: FloatArray,
    embeddings: Float32Array,
    chosen: BoolArray,
) -> list[Values]:
    """Values ``[P]`` of n prompts, calibrated where ``chosen``, ``[n]``."""
    joined = Values.joined(values)
    means = joined.mean.reshape(len(values), -1).T
    calibrated_logits = calibration.logits(logits(means, _LEAST_MEAN), levels, embeddings)
    mean = expit(calibrated_logits).T.ravel()
    changed = np.tile(chosen, len(values))
    calibrated = Values(
        np.where(changed, mean, joined.mean),
        np.where(changed, inside(mean), joined.centre),
        joined.effective_sample_size,
        joined.basis,
    )
    return calibrated.split(values)
