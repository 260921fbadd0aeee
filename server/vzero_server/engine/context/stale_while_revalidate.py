"""What is read of policies for their contexts, and goes on to be used while it will do."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from cachetools import LRUCache

from vzero_server.engine.context.context_cache import CachedContext

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Policies whose latest reading is kept, and how much longer a context may be than that of a
# reading that is used for it.
_POLICIES, _GROWN = 4096, 1.25


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What was read for a context of so many rows, and until when it will do for others."""

    value: T
    rows: int
    good_until: float

    @property
    def recent(self) -> bool:
        """Whether it will still do."""
        return time.monotonic() < self.good_until


class StaleWhileRevalidateCache(Generic[K, T]):
    """One reading of a policy at a time, for whichever of its contexts is asked about.

    A context that grows all the time is not worth a reading for every chunk: that of an earlier
    context, or one under way, will do while the context is about as long. It is repeated so
    rarely that it costs a bounded share of a core, and whoever asks when it is time for that is
    still answered with what there is. A context keeps the reading that was made for it, or was
    recent when it was asked about, for as long as its owner finds that good.

    All methods belong to one event loop.
    """

    def __init__(self, *, share: float, lasting: float = 0.0) -> None:
        """Set up.

        Args:
            share: Of a core, what readings of one policy may cost; 0 if no context may be
                answered with the reading of another.
            lasting: Seconds for which a reading will do, beyond what its cost asks for.
        """
        self._share = share
        self._lasting = lasting
        self._own: WeakKeyDictionary[CachedContext, asyncio.Task[Reading[T]]] = WeakKeyDictionary()
        self._latest: LRUCache[K, asyncio.Task[Reading[T]]] = LRUCache(_POLICIES)
        self._refreshing: dict[K, asyncio.Task[Reading[T]]] = {}

    def peek(self, encoded: CachedContext) -> Reading[T] | None:
        """The reading a context was answered with, if there is one."""
        task = self._own.get(encoded)
        return task.result() if task is not None and _succeeded(task) else None

    def stands_in(self, key: K, rows: int) -> bool:
        """Whether a context of so many rows could be answered with what was read already."""
        task = self._latest.get(key)
        if task is None or not self._share:
            return False
        if not task.done():
            return True
        if not _succeeded(task):
            return False
        return rows <= _GROWN * task.result().rows

    async def get(
        self,
        key: K,
        encoded: CachedContext,
        rows: int,
        read: Callable[[], Coroutine[Any, Any, T]],
        *,
        good: Callable[[Reading[T]], bool] | None = None,
        patience: float | None = None,
    ) -> T | None:
        """What was read for a context, or will do for it.

        Args:
            key: The policy.
            encoded: The context.
            rows: Its length.
            read: Reads it, if nothing will do.
            good: Whether a reading may be used at all; all may, by default.
            patience: Seconds to wait; by default as long as it takes.

        Returns:
            None if it took longer than that, and goes on: later calls find it.
        """
        task = self._own.get(encoded)
        if task is None and self.stands_in(key, rows):
            task = self._latest[key]
            if _usable(task, good) and not task.result().recent:
                self._refresh(key, rows, read)
                # The context is not bound to it: later calls find the other.
                return task.result().value
        if task is None or (task.done() and not _usable(task, good)):
            task = self._latest[key] = self._started(rows, read)
        self._own[encoded] = task
        if patience is not None and not task.done():
            await asyncio.wait([task], timeout=patience)
            return task.result().value if task.done() else None
        if task.done():
            return task.result().value
        # Shielded: others may wait for the same reading.
        return (await asyncio.shield(task)).value

    def _refresh(self, key: K, rows: int, read: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Start a reading that takes the place of the latest when it is done."""
        if key in self._refreshing:
            return

        def refreshed(task: "asyncio.Task[Reading[T]]") -> None:
            del self._refreshing[key]
            if _succeeded(task):
                self._latest[key] = task

        task = self._refreshing[key] = self._started(rows, read)
        task.add_done_callback(refreshed)

    def _started(
        self, rows: int, read: Callable[[], Coroutine[Any, Any, T]]
    ) -> "asyncio.Task[Reading[T]]":
        task = asyncio.create_task(self._read(rows, read))
        # Whoever waits for it may have gone.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _read(self, rows: int, read: Callable[[], Coroutine[Any, Any, T]]) -> Reading[T]:
        began = time.monotonic()
        value = await read()
        now = time.monotonic()
        cost = (now - began) / self._share if self._share else 0.0
        return Reading(value, rows, now + self._lasting + cost)


def _succeeded(task: "asyncio.Task[Reading[T]]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _usable(task: "asyncio.Task[Reading[T]]", good: Callable[[Reading[T]], bool] | None) -> bool:
    return _succeeded(task) and (good is None or good(task.result()))
