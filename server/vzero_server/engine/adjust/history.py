"""Combines values with what the policy earned on the same prompts before."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache
from scipy.special import expit

from vzero_server.engine.adjust.prompt_history import PromptHistory, apply_history
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.context.stale_while_revalidate import StaleWhileRevalidateCache
from vzero_server.engine.estimators.base import Correction
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import PastOutcome, PolicyVersion
from vzero_server.values.beta import Values
from vzero_server.values.evidence import ContextEvidence
from vzero_server.values.history import SHARED, STILL, Dynamics, fit
from vzero_server.values.visits import earlier_visits

# Prompts whose history is kept in memory.
_CACHED_PROMPTS = 32_768
# Share of a core that the fits of one policy may cost.
_SHARE = 0.02
# Past outcomes that take too long for the event loop.
_MANY_OUTCOMES = 1000


@dataclass(frozen=True, slots=True)
class _CachedHistory:
    """The history of a prompt, complete up to a version of the log."""

    version: int
    history: PromptHistory


class HistoryCache:
    """The histories of recently asked prompts, and the dynamics fitted to their policies.

    A history is used until the context of its policy moves on; then it is read again, with all
    prompts of a call in one query. All methods belong to one event loop.
    """

    def __init__(
        self, store: OutcomeStore, *, worker: Executor, max_prompts: int = _CACHED_PROMPTS
    ) -> None:
        """Set up the cache.

        Args:
            store: The log.
            worker: Runs what takes too long for the event loop.
            max_prompts: Prompts whose histories are kept.
        """
        self._store = store
        self._worker = worker
        self._fits: StaleWhileRevalidateCache[tuple[int, int | None], Dynamics] = (
            StaleWhileRevalidateCache(share=_SHARE)
        )
        self._cached: LRUCache[tuple[int, bytes], _CachedHistory] = LRUCache(max_prompts)

    async def apply(
        self,
        policies: Sequence[PolicyVersion],
        contexts: Sequence[CachedContext],
        values: Sequence[Values],
        digests: Sequence[bytes],
        as_of_step: int | None,
    ) -> list[Values]:
        """Return values under each context combined with the histories of their prompts.

        Args:
            policies: The policies, as they were before their contexts were read.
            contexts: Of each policy.
            values: Of the prompts under each context.
            digests: Of the prompts.
            as_of_step: Histories end with this step.
        """
        histories: list[PromptHistory] = []
        dynamics: list[Dynamics] = []
        by_context = await self.histories(policies, contexts, digests, as_of_step)
        for context, context_histories in zip(contexts, by_context, strict=True):
            histories.extend(context_histories)
            policy_dynamics = SHARED
            if any(history.outcomes for history in context_histories):
                policy_dynamics = await self.dynamics(context, as_of_step)
            dynamics.extend([policy_dynamics] * len(context_histories))
        outcome_count = sum(len(history.outcomes) for history in histories)
        if not outcome_count:
            return list(values)
        joined = Values.joined(values)
        if outcome_count > _MANY_OUTCOMES:
            loop = asyncio.get_running_loop()
            combined = await loop.run_in_executor(
                self._worker, apply_history, joined, histories, dynamics
            )
        else:
            combined = apply_history(joined, histories, dynamics)
        return combined.split(values)

    async def dynamics(self, context: CachedContext, as_of_step: int | None) -> Dynamics:
        """Return the dynamics of the policy of a context, fitted when first asked for.

        Args:
            context: The context.
            as_of_step: The step that the context ends with.
        """
        evidence = context.fitted.evidence
        shared = STILL if context.summary.newest_step is None else SHARED
        if evidence is None or Correction.HISTORY not in context.estimator.corrections:
            return shared
        dynamics = await self._fits.get(
            (context.policy.key, as_of_step),
            context,
            context.summary.rows,
            lambda: self._fit(context, evidence, as_of_step, shared),
        )
        assert dynamics is not None
        return dynamics

    async def histories(
        self,
        policies: Sequence[PolicyVersion],
        contexts: Sequence[CachedContext],
        digests: Sequence[bytes],
        as_of_step: int | None,
    ) -> list[list[PromptHistory]]:
        """Return the histories of prompts under each context, none newer than the context.

        The log is queried once, however many contexts there are.

        Args:
            policies: The policies, as they were before their contexts were read.
            contexts: Of each policy.
            digests: Of the prompts, ``[n]``.
            as_of_step: Only outcomes whose step is set and at most this.
        """
        histories: dict[tuple[int, bytes], PromptHistory] = {}
        missing: dict[tuple[int, bytes], int] = {}
        for policy, context in zip(policies, contexts, strict=True):
            version = context.summary.version
            for digest in digests:
                pair = policy.key, digest
                cached = self._cached.get(pair) if as_of_step is None else None
                if cached and cached.version >= version:
                    histories[pair] = cached.history
                else:
                    # Whatever was committed when the context was read is read now.
                    missing[pair] = max(version, policy.version)
        if missing:
            keys, missing_digests = (
                list(dict.fromkeys(column)) for column in zip(*missing, strict=True)
            )
            read = await self._store.histories(keys, missing_digests, as_of_step)
            for pair, complete_until in missing.items():
                histories[pair] = PromptHistory(read.get(pair, ()))
                if as_of_step is None:
                    self._cached[pair] = _CachedHistory(complete_until, histories[pair])
        return [
            [
                histories[context.policy.key, digest].until(context.summary.version)
                for digest in digests
            ]
            for context in contexts
        ]

    async def _fit(
        self,
        context: CachedContext,
        evidence: ContextEvidence,
        as_of_step: int | None,
        shared: Dynamics,
    ) -> Dynamics:
        prompts = np.unique(evidence.prompts).tolist()
        read = await self._store.histories_by_key(context.policy.key, prompts, as_of_step)
        return await asyncio.get_running_loop().run_in_executor(
            self._worker, _fit_dynamics, evidence, read, context.summary.version, shared
        )


def _fit_dynamics(
    evidence: ContextEvidence,
    histories: Mapping[int, Sequence[PastOutcome]],
    version: int,
    shared: Dynamics,
) -> Dynamics:
    """Fit how the newest outcomes of a context's prompts follow from their earlier visits."""
    # The last row of each prompt.
    prompts, last = np.unique(evidence.prompts[::-1], return_index=True)
    last_rows = len(evidence.prompts) - 1 - last
    outcomes = [
        (number, outcome)
        for number, prompt in enumerate(prompts.tolist())
        for outcome in histories.get(prompt, ())
        if outcome.seq <= version
    ]
    owner = np.array([number for number, _ in outcomes], np.int64)
    steps = [-1 if outcome.step is None else outcome.step for _, outcome in outcomes]
    rewards = np.array([outcome.reward for _, outcome in outcomes], np.float64)
    rollouts = np.array([outcome.rollouts for _, outcome in outcomes], np.float64)
    visits = earlier_visits(owner, np.array(steps, np.int64), rewards, rollouts)
    newest = np.flatnonzero(np.append(owner[1:] != owner[:-1], True)) if outcomes else owner
    rows = last_rows[owner[newest]]
    return fit(
        expit(evidence.loo_logits[rows]),
        np.full(len(rows), evidence.kappa),
        visits.of(newest),
        rewards[newest],
        rollouts[newest],
        shared,
    )
