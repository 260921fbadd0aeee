"""Prompts on their way through the backbone, in the order they are due, and its pace."""

import asyncio
import bisect
import itertools
from collections.abc import Sized
from dataclasses import dataclass

from vzero_server.types import Features

# How much of what was learned of the device's pace a batch leaves.
_REMEMBERED = 0.95


@dataclass(eq=False, slots=True)
class Item:
    """One distinct prompt on its way through the backbone, and who waits for it."""

    digest: bytes
    prompt: str
    due: float
    background: bool
    vector: "asyncio.Future[Features]"
    tokens: Sized = ()
    waiters: int = 0
    # When it came, had tokens, was on the device, and came back; on the monotonic clock.
    asked: float = 0.0
    tokenised: float = 0.0
    began: float = 0.0
    ended: float = 0.0

    @property
    def wanted(self) -> bool:
        """Whether computing it still serves anyone."""
        return not self.vector.done() and (self.waiters > 0 or self.background)


class PromptQueue:
    """Items by the time they are due; equals in the order they came."""

    def __init__(self) -> None:
        # In order, not a heap: how much is due by now is asked for with every call.
        self._items: list[tuple[float, int, Item]] = []
        self._tokens = 0
        self._number = itertools.count()

    def __len__(self) -> int:
        return len(self._items)

    def due(self, now: float) -> int:
        """Tokens of those that were due before now."""
        place = bisect.bisect_left(self._items, (now,))
        # Nearly all are, unless a long call waits.
        return self._tokens - sum(len(item.tokens) for _, _, item in self._items[place:])

    def push(self, item: Item) -> None:
        """Put one in its place."""
        bisect.insort(self._items, (item.due, next(self._number), item))
        self._tokens += len(item.tokens)

    def pop(self) -> Item:
        """Take the one that is due first."""
        item = self._items.pop(0)[2]
        self._tokens -= len(item.tokens)
        return item


class Pace:
    """How fast the device has been over some twenty batches.

    Judged by tokens: prompts may be short today and long tomorrow.
    """

    def __init__(self) -> None:
        # Of some hundred prompts a second, until more is known.
        self._prompts, self._tokens, self._seconds = 100.0, 5000.0, 1.0

    @property
    def prompts_per_second(self) -> float:
        """Prompts as they have been."""
        return self._prompts / self._seconds

    def seconds(self, tokens: int, prompts: int) -> float:
        """What the device takes for some tokens, and for prompts whose tokens are not known."""
        tokens_of_prompts = prompts * self._tokens / self._prompts
        return (tokens + tokens_of_prompts) * self._seconds / self._tokens

    def record(self, prompts: int, tokens: int, seconds: float) -> None:
        """Take a batch into account."""
        # Sums, not a mean of rates: that of a small batch says little of a large one.
        self._prompts = _REMEMBERED * self._prompts + prompts
        self._tokens = _REMEMBERED * self._tokens + tokens
        self._seconds = _REMEMBERED * self._seconds + seconds
