"""Prompts on their way through the backbone, queued by the time they are due."""

import asyncio
import bisect
from collections.abc import Sized
from dataclasses import dataclass
from operator import attrgetter

from vzero_server.types import Features

# A slot is read faster than a property, and most of a queue's time is spent comparing.
_position = attrgetter("position")


@dataclass(eq=False, slots=True)
class QueuedPrompt:
    """One distinct prompt on its way through the backbone, and how many callers wait for it.

    Times are of the monotonic clock.

    Attributes:
        digest: Digest of the prompt.
        prompt: Its text; empty once it is tokenised.
        due: When its turn comes.
        position: Sort key in a queue: ``due``, then its number in order of arrival.
        arrived_at: When a call first asked for it.
        vector: The result.
        tokens: Its tokens; empty until it is tokenised.
        urgent_waiters: Callers that wait for it, apart from the background work.
        background_waiters: Callers that asked for it in the background.
        queue: The queue it is in; None before it is tokenised and while it runs.
        on_device: Whether its batch runs.
        tokenised_at: When its tokens were ready.
        started_at: When its batch started.
        finished_at: When its batch finished.
    """

    digest: bytes
    prompt: str
    due: float
    position: tuple[float, int]
    arrived_at: float
    vector: "asyncio.Future[Features]"
    tokens: Sized = ()
    urgent_waiters: int = 0
    background_waiters: int = 0
    queue: "PromptQueue | None" = None
    on_device: bool = False
    tokenised_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0

    @property
    def waiters(self) -> int:
        """All callers that wait for it."""
        return self.urgent_waiters + self.background_waiters


class PromptQueue:
    """Prompts ordered by due time, then by arrival."""

    def __init__(self) -> None:
        # A sorted list, not a heap: every call asks how many tokens are due by now, and a
        # caller that leaves takes its prompts out of the middle.
        self._entries: list[QueuedPrompt] = []
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._entries)

    def due_tokens(self, now: float) -> int:
        """Tokens of the entries that were due before ``now``."""
        place = self._place((now, 0))
        # Nearly all are due, unless a large call is queued: sum the others.
        return self._tokens - sum(len(entry.tokens) for entry in self._entries[place:])

    def push(self, entry: QueuedPrompt) -> None:
        """Insert a tokenised entry. Its position must not change while it is queued."""
        self._entries.insert(self._place(entry.position), entry)
        entry.queue = self
        self._tokens += len(entry.tokens)

    def pop(self) -> QueuedPrompt:
        """Remove and return the entry that is due first."""
        entry = self._entries.pop(0)
        entry.queue = None
        self._tokens -= len(entry.tokens)
        return entry

    def remove(self, entry: QueuedPrompt) -> None:
        """Remove an entry from anywhere in the queue."""
        place = self._place(entry.position)
        assert self._entries[place] is entry
        del self._entries[place]
        entry.queue = None
        self._tokens -= len(entry.tokens)

    def _place(self, position: tuple[float, int]) -> int:
        return bisect.bisect_left(self._entries, position, key=_position)
