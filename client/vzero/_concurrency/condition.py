"""Conditions: wait until shared state has changed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType


class Condition(threading.Condition):
    """A condition of threads, whose lock guards the state."""

    def wait_until(self, predicate: Callable[[], bool], seconds: float | None = None) -> None:
        """Release the lock and wait until the predicate holds, or the time is up.

        Args:
            predicate: called with the lock held, after every notification.
            seconds: longest wait; None: no limit.
        """
        self.wait_for(predicate, seconds)

    def wait_change(self, seconds: float) -> None:
        """Release the lock and wait for a notification, or until the time is up."""
        self.wait(seconds)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Release the lock inside the block."""
        self.release()
        try:
            yield
        finally:
            self.acquire()


class AsyncCondition:
    """A condition of tasks on one event loop.

    It has no lock: only one task runs at a time, and a block that uses the condition never awaits
    anything else.
    """

    def __init__(self) -> None:
        """Create the condition; it may be used on one event loop only."""
        self._changed = asyncio.Event()

    def notify_all(self) -> None:
        """Wake all tasks that wait."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_until(self, predicate: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until the predicate holds, or the time is up.

        Args:
            predicate: called after every notification.
            seconds: longest wait; None: no limit.
        """
        if predicate():
            return
        try:
            async with asyncio.timeout(seconds):
                while not predicate():
                    await self._changed.wait()
        except TimeoutError:
            return

    async def wait_change(self, seconds: float) -> None:
        """Wait for a notification, or until the time is up."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Do nothing: there is no lock."""
        yield

    async def __aenter__(self) -> None:
        return

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return
