"""Parts of the server that can be asked whether they work."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Monitored(Protocol):
    """Something that works, and is missed when it does not."""

    @property
    def name(self) -> str:
        """What it is, for the log."""

    @property
    def alive(self) -> bool:
        """Whether it can still work."""

    @property
    def busy_since(self) -> float | None:
        """When its oldest running job began, on the monotonic clock; None if none runs."""


class Worker(ThreadPoolExecutor):
    """A pool of threads that notes when each running job began.

    Attributes:
        name: What it does.
    """

    def __init__(self, name: str, threads: int = 1) -> None:
        """Set up the pool; its threads start with the first jobs.

        Args:
            name: What it does; the threads are called ``vzero-<name>``.
            threads: Most threads.
        """
        super().__init__(threads, thread_name_prefix=f"vzero-{name}", initializer=self._register)
        self.name = name
        self._own: list[threading.Thread] = []
        self._began: dict[int, float] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """See ``ThreadPoolExecutor``."""
        return super().submit(self._timed, fn, *args, **kwargs)

    @property
    def alive(self) -> bool:
        """Whether no thread has died."""
        return all(thread.is_alive() for thread in self._own)

    @property
    def busy_since(self) -> float | None:
        """See ``Monitored``."""
        # A copy, made in one step: the threads go on.
        return min(list(self._began.values()), default=None)

    def _register(self) -> None:
        self._own.append(threading.current_thread())

    def _timed(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        thread = threading.get_ident()
        self._began[thread] = time.monotonic()
        try:
            return fn(*args, **kwargs)
        finally:
            del self._began[thread]


@dataclass(frozen=True, slots=True)
class MonitoredTask:
    """A task that must not end while the server runs."""

    name: str
    task: "asyncio.Task[None]"

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not self.task.done()

    @property
    def busy_since(self) -> None:
        """None: it waits most of the time, and for things that are monitored themselves."""
        return
