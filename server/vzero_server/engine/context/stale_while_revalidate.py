"""Results derived from contexts, used while newer ones are computed."""

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

# Policies whose newest result is kept.
_POLICIES = 4096
# A result is used for contexts of the same policy that are at most this much longer than its own.
_GROWTH = 1.25


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """A result derived from a context of so many rows, and until when it serves other contexts."""

    value: T
    rows: int
    fresh_until: float

    @property
    def fresh(self) -> bool:
        """Whether it may still serve other contexts."""
        return time.monotonic() < self.fresh_until


class StaleWhileRevalidateCache(Generic[K, T]):
    """One result per policy at a time, for all of its contexts.

    A context that grows all the time is not worth a computation for every chunk: the result of an
    earlier context, or one that is being computed, serves it while it is about as long. Results
    are computed so rarely that they cost a bounded share of a core, and a caller that arrives when
    a new one is due gets the old one. A context keeps the result that was computed for it, or was
    fresh when it was first asked for, as long as the caller considers that valid.

    All methods belong to one event loop.
    """

    def __init__(self, *, share: float, lifetime: float = 0.0) -> None:
        """Set up the cache.

        Args:
            share: Share of a core that the results of one policy may cost; 0 if no context may be
                served with the result of another.
            lifetime: Seconds for which a result is fresh, beyond what its cost demands.
        """
        self._share = share
        self._lifetime = lifetime
        self._by_context: WeakKeyDictionary[CachedContext, asyncio.Task[Result[T]]] = (
            WeakKeyDictionary()
        )
        self._newest: LRUCache[K, asyncio.Task[Result[T]]] = LRUCache(_POLICIES)
        self._refreshing: dict[K, asyncio.Task[Result[T]]] = {}

    def peek(self, context: CachedContext) -> Result[T] | None:
        """Return the result that a context was served with, if there is one."""
        task = self._by_context.get(context)
        return task.result() if task is not None and _succeeded(task) else None

    def covers(self, key: K, rows: int) -> bool:
        """Return whether a context of so many rows would be served with an existing result."""
        task = self._newest.get(key)
        if task is None or not self._share:
            return False
        if not task.done():
            return True
        return _succeeded(task) and rows <= _GROWTH * task.result().rows

    async def get(
        self,
        key: K,
        context: CachedContext,
        rows: int,
        compute: Callable[[], Coroutine[Any, Any, T]],
        *,
        valid: Callable[[Result[T]], bool] | None = None,
        patience: float | None = None,
    ) -> T | None:
        """Return the result for a context.

        Args:
            key: The policy.
            context: The context.
            rows: Its length.
            compute: Computes the result, if no existing one serves the context.
            valid: Whether a result may be used at all; by default every one may.
            patience: Seconds to wait; by default as long as it takes.

        Returns:
            None if the result takes longer than ``patience``; it is computed nevertheless, and
            later calls find it.
        """
        task = self._by_context.get(context)
        if task is None and self.covers(key, rows):
            task = self._newest[key]
            if _usable(task, valid) and not task.result().fresh:
                self._refresh(key, rows, compute)
                # The context is not bound to this result: later calls find the newer one.
                return task.result().value
        if task is None or (task.done() and not _usable(task, valid)):
            task = self._newest[key] = self._start(rows, compute)
        self._by_context[context] = task
        if patience is not None and not task.done():
            await asyncio.wait([task], timeout=patience)
            return task.result().value if task.done() else None
        if task.done():
            return task.result().value
        # Shielded, since other callers may wait for the same result.
        return (await asyncio.shield(task)).value

    def _refresh(self, key: K, rows: int, compute: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Compute a result that replaces the newest one when it is done."""
        if key in self._refreshing:
            return

        def replace_newest(task: "asyncio.Task[Result[T]]") -> None:
            del self._refreshing[key]
            if _succeeded(task):
                self._newest[key] = task

        task = self._refreshing[key] = self._start(rows, compute)
        task.add_done_callback(replace_newest)

    def _start(
        self, rows: int, compute: Callable[[], Coroutine[Any, Any, T]]
    ) -> "asyncio.Task[Result[T]]":
        task = asyncio.create_task(self._compute(rows, compute))
        # Retrieves the exception, which no caller may be waiting for.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _compute(self, rows: int, compute: Callable[[], Coroutine[Any, Any, T]]) -> Result[T]:
        began = time.monotonic()
        value = await compute()
        ended = time.monotonic()
        cost = (ended - began) / self._share if self._share else 0.0
        return Result(value, rows, ended + self._lifetime + cost)


def _succeeded(task: "asyncio.Task[Result[T]]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _usable(task: "asyncio.Task[Result[T]]", valid: Callable[[Result[T]], bool] | None) -> bool:
    return _succeeded(task) and (valid is None or valid(task.result()))
