"""Worker threads and tasks whose state the watchdog can read."""

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Monitored(Protocol):
    """A part of the server that the watchdog checks."""

    @property
    def name(self) -> str:
        """Its name, for the log."""

    @property
    def alive(self) -> bool:
        """Whether it can still do its work."""

    @property
    def busy_since(self) -> float | None:
        """When its oldest running job started, on the monotonic clock; None if none runs."""


class Worker(ThreadPoolExecutor):
    """A monitored pool of threads.

    Attributes:
        name: What it does.
    """

    def __init__(self, name: str, threads: int = 1, *, has_long_jobs: bool = False) -> None:
        """Set up the pool; its threads start with the first jobs.

        Args:
            name: What it does; the threads are called ``vzero-<name>``.
            threads: Maximum number of threads.
            has_long_jobs: Whether a job may take any time. The duration of jobs is then not
                reported, so that a long job is not taken for one that hangs.
        """
        super().__init__(threads, thread_name_prefix=f"vzero-{name}", initializer=self._register)
        self.name = name
        self._has_long_jobs = has_long_jobs
        self._members: list[threading.Thread] = []
        self._started_at: dict[int, float] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """See ``ThreadPoolExecutor``."""
        return super().submit(self._timed, fn, *args, **kwargs)

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function on a thread of the pool and return its result."""
        job = functools.partial(fn, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self, job)

    @property
    def alive(self) -> bool:
        """Whether no thread has died."""
        return all(thread.is_alive() for thread in self._members)

    @property
    def busy_since(self) -> float | None:
        """See ``Monitored``."""
        if self._has_long_jobs:
            return None
        # The threads change the dictionary meanwhile, so it is copied in one step.
        return min(list(self._started_at.values()), default=None)

    def _register(self) -> None:
        self._members.append(threading.current_thread())

    def _timed(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        thread = threading.get_ident()
        self._started_at[thread] = time.monotonic()
        try:
            return fn(*args, **kwargs)
        finally:
            del self._started_at[thread]


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
        """None: it waits most of the time, for parts that are monitored themselves."""
        return
