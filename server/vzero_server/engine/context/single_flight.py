"""Work that several callers wait for together."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Executor, Future
from typing import Any, Generic, ParamSpec, TypeVar

K = TypeVar("K", bound=Hashable)
P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class Job(Generic[T]):
    """Something under way, and how many wait for it.

    Attributes:
        dropped: It will not be finished.
        task: Makes it.
    """

    def __init__(self, worker: Executor, *, background: bool) -> None:
        """Set up a job, whose ``task`` is set by ``SingleFlight``."""
        self._worker = worker
        self._background = background
        self._queued: Future[Any] | None = None
        self._waiters = 0
        self.dropped = False
        self.task: asyncio.Task[T]

    @property
    def wanted(self) -> bool:
        """Whether it serves anyone."""
        return self._background or self._waiters > 0

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function on the worker, unless nobody wants the job by then.

        Raises:
            CancelledError: All who waited for the job left before the function began.
        """
        if not self.wanted:
            raise asyncio.CancelledError
        self._queued = self._worker.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(self._queued)

    async def wait(self) -> T:
        """The result."""
        self._waiters += 1
        try:
            # Shielded: others may wait for it.
            return await asyncio.shield(self.task)
        finally:
            self._waiters -= 1
            if self._queued is not None and not self.wanted:
                # Of no effect on what has begun.
                self.dropped = self._queued.cancel()


class SingleFlight(Generic[K, T]):
    """Jobs by key: who asks for one that is under way waits for that.

    What has begun is finished, whoever leaves, since it is kept for who asks next. A job
    that still waits for its thread when the last caller leaves is dropped.

    All methods belong to one event loop.
    """

    def __init__(self, worker: Executor) -> None:
        """Run jobs on a worker."""
        self._worker = worker
        self._jobs: dict[K, Job[T]] = {}

    def __len__(self) -> int:
        """Jobs under way."""
        return len(self._jobs)

    def __contains__(self, key: K) -> bool:
        """Whether a job is under way."""
        return key in self._jobs

    async def get(self, key: K, make: Callable[[Job[T]], Coroutine[Any, Any, T]]) -> T:
        """The result of a job.

        Args:
            key: What it makes.
            make: Makes it if that is not under way; is given the job.
        """
        job = self._jobs.get(key)
        if job is None or job.dropped:
            job = self._start(key, make, background=False)
        return await job.wait()

    def refresh(self, key: K, make: Callable[[Job[T]], Coroutine[Any, Any, T]]) -> None:
        """Start a job for which nobody waits, unless it is under way."""
        if key not in self._jobs:
            self._start(key, make, background=True)

    def _start(
        self, key: K, make: Callable[[Job[T]], Coroutine[Any, Any, T]], *, background: bool
    ) -> Job[T]:
        job: Job[T] = Job(self._worker, background=background)
        self._jobs[key] = job
        job.task = asyncio.create_task(self._make(key, job, make))
        # Nobody may wait for it.
        job.task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return job

    async def _make(
        self, key: K, job: Job[T], make: Callable[[Job[T]], Coroutine[Any, Any, T]]
    ) -> T:
        try:
            return await make(job)
        finally:
            # Before the task is done: whoever finds it here can wait for it.
            if self._jobs.get(key) is job:
                del self._jobs[key]
