"""What a policy earned before on the very prompts asked for, and values that remember it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from cachetools import LRUCache

from vzero_server.contexts.histories import PastOutcome
from vzero_server.contexts.store import ContextStore, Head
from vzero_server.decisions.fusion import SHARED, Dynamics, fuse
from vzero_server.decisions.visits import past_of
from vzero_server.engine.encoded import Encoded
from vzero_server.engine.value import History, Values, beta_values

# Prompts whose history is kept in memory.
_KEPT = 65_536


@dataclass(frozen=True, slots=True)
class _Entry:
    """The history of a prompt; nothing of it is missing up to a version of the log."""

    version: int
    rows: Sequence[PastOutcome]


class Memory:
    """Histories of prompts under policies, those asked for last kept in memory.

    What is kept is used until the policy's context moves on; then it is read again, with all
    prompts of a call in one query. All methods belong to one event loop.
    """

    def __init__(self, store: ContextStore, *, kept: int = _KEPT) -> None:
        """Read from the log, and keep the histories of so many prompts."""
        self._store = store
        self._entries: LRUCache[tuple[int, bytes], _Entry] = LRUCache(kept)

    async def histories(
        self, head: Head, encoded: Encoded, digests: Sequence[bytes], as_of_step: int | None
    ) -> list[list[PastOutcome]]:
        """Past outcomes of prompts by digest, oldest first, none newer than the context.

        Args:
            head: The policy, as it was before the context was read.
            encoded: The context.
            digests: Of the prompts, ``[n]``.
            as_of_step: Only outcomes whose step is set and at most this.
        """
        version = encoded.summary.version
        found: dict[bytes, Sequence[PastOutcome]] = {}
        missing = list(dict.fromkeys(digests))
        if as_of_step is None:
            kept = {digest: self._entries.get((head.key, digest)) for digest in missing}
            found = {
                d: entry.rows for d, entry in kept.items() if entry and entry.version >= version
            }
            missing = [digest for digest in missing if digest not in found]
        if missing:
            # What was committed when the context was read is there when this is.
            read = await self._store.histories(head.key, missing, as_of_step)
            found |= {digest: read.get(digest, ()) for digest in missing}
            if as_of_step is None:
                complete = max(version, head.version)
                for digest in missing:
                    self._entries[head.key, digest] = _Entry(complete, found[digest])
        return [[row for row in found[digest] if row.seq <= version] for digest in digests]


def remembering(
    values: Values, histories: Sequence[Sequence[PastOutcome]], dynamics: Dynamics = SHARED
) -> Values:
    """Values combined with the histories of their prompts, ``[n]``.

    Args:
        values: Of the prompts, ``[n]``.
        histories: Past outcomes of each, oldest first.
        dynamics: Fitted to the policy.
    """
    rows = [row for own in histories for row in own]
    if not rows:
        return values
    owner = np.repeat(np.arange(len(histories)), [len(own) for own in histories])
    rollouts = np.array([row.rollouts for row in rows], np.float64)
    past = past_of(
        owner,
        np.array([-1 if row.step is None else row.step for row in rows], np.int64),
        np.array([row.reward for row in rows], np.float64),
        rollouts,
        len(histories),
    )
    fused = fuse(values.mean, values.effective_sample_size, past, dynamics)
    known = past.known
    found = beta_values(
        fused.mean, fused.mean.clip(1e-4, 1.0 - 1e-4), fused.concentration, values.basis
    )
    history = History(
        rollouts=np.bincount(owner, rollouts, len(histories)).astype(np.int64),
        weight=fused.evidence,
        newest_step=tuple(
            max((row.step for row in own if row.step is not None), default=None)
            for own in histories
        ),
        newest_observed_at=tuple(own[-1].observed_at if own else None for own in histories),
    )
    return replace(
        found,
        lower=np.where(known, found.lower, values.lower),
        upper=np.where(known, found.upper, values.upper),
        history=history,
    )
