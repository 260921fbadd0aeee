"""What a policy earned before on the very prompts asked for, and values that remember it."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache
from scipy.special import expit

from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.context.stale_while_revalidate import StaleWhileRevalidateCache
from vzero_server.engine.context.window import Summary
from vzero_server.engine.estimators.icl import Known
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import PastOutcome, PolicyVersion
from vzero_server.values.history import SHARED, STILL, Dynamics, fit, fuse
from vzero_server.values.values import History, Values
from vzero_server.values.visits import Past, past_of, past_of_rows

# Prompts whose history is kept in memory.
_KEPT = 32_768
# Share of a core that fits to one policy may cost.
_SHARE = 0.02


@dataclass(slots=True)
class Remembered:
    """What a policy earned on a prompt, oldest first; what counts of it, once that was asked."""

    rows: Sequence[PastOutcome]
    past: Past | None = None

    def until(self, version: int) -> "Remembered":
        """What of it was known at a version of the log."""
        if not self.rows or self.rows[-1].seq <= version:
            return self
        return Remembered([row for row in self.rows if row.seq <= version])


@dataclass(frozen=True, slots=True)
class _Entry:
    """The history of a prompt; nothing of it is missing up to a version of the log."""

    version: int
    own: Remembered


class Memory:
    """Histories of prompts under policies, those asked for last kept in memory.

    What is kept is used until the policy's context moves on; then it is read again, with all
    prompts of a call in one query. All methods belong to one event loop.
    """

    def __init__(
        self, store: OutcomeStore, *, worker: Executor | None = None, kept: int = _KEPT
    ) -> None:
        """Set up.

        Args:
            store: The log.
            worker: Runs what takes longer than the event loop may halt; None for the loop's own.
            kept: Prompts whose histories are kept.
        """
        self._store = store
        self._worker = worker
        self._fits: StaleWhileRevalidateCache[tuple[int, int | None], Dynamics] = (
            StaleWhileRevalidateCache(share=_SHARE)
        )
        self._entries: LRUCache[tuple[int, bytes], _Entry] = LRUCache(kept)

    async def dynamics(
        self, head: PolicyVersion, encoded: CachedContext, as_of_step: int | None
    ) -> Dynamics:
        """How the policy of a context moves, fitted to it when first asked for.

        Args:
            head: The policy.
            encoded: The context.
            as_of_step: What it ends with.
        """
        known, summary = encoded.context, encoded.summary
        shared = STILL if summary.newest_step is None else SHARED
        if not isinstance(known, Known):
            return shared
        found = await self._fits.get(
            (head.key, as_of_step),
            encoded,
            summary.rows,
            lambda: self._fit(head, known, summary, as_of_step, shared),
        )
        assert found is not None
        return found

    async def _fit(
        self,
        head: PolicyVersion,
        known: Known,
        summary: Summary,
        as_of_step: int | None,
        shared: Dynamics,
    ) -> Dynamics:
        prompts = np.unique(known.prompts).tolist()
        read = await self._store.histories_by_key(head.key, prompts, as_of_step)
        return await asyncio.get_running_loop().run_in_executor(
            self._worker, _fitted, known, read, summary.version, shared
        )

    async def histories(
        self,
        contexts: Sequence[tuple[PolicyVersion, CachedContext]],
        digests: Sequence[bytes],
        as_of_step: int | None,
    ) -> list[list[Remembered]]:
        """Past outcomes of prompts by digest under each context, oldest first, none newer than it.

        The log is asked once, however many contexts there are.

        Args:
            contexts: The policies, as they were before their contexts were read, and these.
            digests: Of the prompts, ``[n]``.
            as_of_step: Only outcomes whose step is set and at most this.
        """
        found: dict[tuple[int, bytes], Remembered] = {}
        missing: dict[tuple[int, bytes], int] = {}
        for head, encoded in contexts:
            version = encoded.summary.version
            for digest in digests:
                pair = head.key, digest
                entry = self._entries.get(pair) if as_of_step is None else None
                if entry and entry.version >= version:
                    found[pair] = entry.own
                else:
                    # What was committed when the context was read is there when this is.
                    missing[pair] = max(version, head.version)
        if missing:
            keys, lacking = (list(dict.fromkeys(part)) for part in zip(*missing, strict=True))
            read = await self._store.histories(keys, lacking, as_of_step)
            for pair, complete in missing.items():
                found[pair] = Remembered(read.get(pair, ()))
                if as_of_step is None:
                    self._entries[pair] = _Entry(complete, found[pair])
        return [
            [found[head.key, digest].until(encoded.summary.version) for digest in digests]
            for head, encoded in contexts
        ]


def _fitted(
    known: Known, histories: Mapping[int, Sequence[PastOutcome]], version: int, shared: Dynamics
) -> Dynamics:
    """How the newest outcomes of the prompts of a context went on from those before them."""
    # Of the rows of a prompt the last.
    prompts, last = np.unique(known.prompts[::-1], return_index=True)
    place = len(known.prompts) - 1 - last
    rows = [
        (number, row)
        for number, prompt in enumerate(prompts.tolist())
        for row in histories.get(prompt, ())
        if row.seq <= version
    ]
    owner = np.array([number for number, _ in rows], np.int64)
    steps = np.array([-1 if row.step is None else row.step for _, row in rows], np.int64)
    rewards = np.array([row.reward for _, row in rows], np.float64)
    rollouts = np.array([row.rollouts for _, row in rows], np.float64)
    past = past_of_rows(owner, steps, rewards, rollouts)
    newest = np.flatnonzero(np.append(owner[1:] != owner[:-1], True)) if rows else owner
    chosen = place[owner[newest]]
    return fit(
        expit(known.left_out[chosen]),
        np.full(len(chosen), known.kappa),
        past.of(newest),
        rewards[newest],
        rollouts[newest],
        shared,
    )


def remembering(
    values: Values, histories: Sequence[Remembered], dynamics: Sequence[Dynamics]
) -> Values:
    """Values combined with the histories of their prompts, ``[n]``.

    Args:
        values: Of the prompts, ``[n]``.
        histories: Of each.
        dynamics: Fitted to the policy of each, ``[n]``.
    """
    if not any(own.rows for own in histories):
        return values
    past = _past(histories)
    fused = fuse(values.mean, values.effective_sample_size, past, dynamics)
    history = History(
        rollouts=np.array([sum(row.rollouts for row in own.rows) for own in histories]),
        weight=fused.evidence,
        newest_step=tuple(
            max((row.step for row in own.rows if row.step is not None), default=None)
            for own in histories
        ),
        newest_observed_at=tuple(
            own.rows[-1].observed_at if own.rows else None for own in histories
        ),
    )
    return Values(
        mean=fused.mean,
        centre=np.where(past.known, fused.mean.clip(1e-4, 1.0 - 1e-4), values.centre),
        effective_sample_size=fused.concentration,
        basis=values.basis,
        history=history,
    )


def _past(histories: Sequence[Remembered]) -> Past:
    """What counts of histories; worked out together where it was not before."""
    new = [own for own in histories if own.past is None]
    if new:
        rows = [row for own in new for row in own.rows]
        together = past_of(
            np.repeat(np.arange(len(new)), [len(own.rows) for own in new]),
            np.array([-1 if row.step is None else row.step for row in rows], np.int64),
            np.array([row.reward for row in rows], np.float64),
            np.array([row.rollouts for row in rows], np.float64),
            len(new),
        )
        for own, past in zip(new, together.apart(), strict=True):
            own.past = past
    return Past.together([own.past for own in histories if own.past is not None])
