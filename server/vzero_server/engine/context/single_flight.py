"""Jobs by key that several callers wait for together."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import Executor, Future
from typing import Any, Generic, ParamSpec, TypeVar

K = TypeVar("K", bound=Hashable)
P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


class Job(Generic[T]):
    """A running job, and the number of its waiters.

    Attributes:
        dropped: The job will not finish.
        task: Runs the job.
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
        """Whether a caller waits for the job, or it runs in the background."""
        return self._background or self._waiters > 0

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function on the worker, unless all waiters have left.

        Raises:
            CancelledError: All waiters left before the function began.
        """
        if not self.wanted:
            raise asyncio.CancelledError
        self._queued = self._worker.submit(function, *args, **kwargs)
        return await asyncio.wrap_future(self._queued)

    async def wait(self) -> T:
        """Wait for the result."""
        self._waiters += 1
        try:
            # Shielded, since other callers may wait for it.
            return await asyncio.shield(self.task)
        finally:
            self._waiters -= 1
            if self._queued is not None and not self.wanted:
                # Has no effect on a function that has begun.
                self.dropped = self._queued.cancel()


class SingleFlight(Generic[K, T]):
    """Runs one job per key at a time; callers of a running job wait for its result.

    A function that has begun runs to its end even if all callers leave, since its result is
    cached for the next one. A job whose function still waits for a thread when the last caller
    leaves is dropped.

    All methods belong to one event loop.
    """

    def __init__(self, worker: Executor) -> None:
        """Run the functions of jobs on a worker."""
        self._worker = worker
        self._jobs: dict[K, Job[T]] = {}

    def __len__(self) -> int:
        """Return the number of running jobs."""
        return len(self._jobs)

    def __contains__(self, key: K) -> bool:
        """Return whether a job is running."""
        return key in self._jobs

    async def get(self, key: K, make: Callable[[Job[T]], Coroutine[Any, Any, T]]) -> T:
        """Return the result of a job.

        Args:
            key: Identifies the job.
            make: Does the work, given the job; called unless the job is running.
        """
        job = self._jobs.get(key)
        if job is None or job.dropped:
            job = self._start(key, make, background=False)
        return await job.wait()

    def refresh(self, key: K, make: Callable[[Job[T]], Coroutine[Any, Any, T]]) -> None:
        """Start a job in the background, unless it is running."""
        if key not in self._jobs:
            self._start(key, make, background=True)

    def _start(
        self, key: K, make: Callable[[Job[T]], Coroutine[Any, Any, T]], *, background: bool
    ) -> Job[T]:
        job: Job[T] = Job(self._worker, background=background)
        self._jobs[key] = job
        job.task = asyncio.create_task(self._run(key, job, make))
        # Retrieves the exception, which no caller may be waiting for.
        job.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return job

    async def _run(
        self, key: K, job: Job[T], make: Callable[[Job[T]], Coroutine[Any, Any, T]]
    ) -> T:
        try:
            return await make(job)
        finally:
            # Before the task is done, so that every job found here can be waited for.
            if self._jobs.get(key) is job:
                del self._jobs[key]
