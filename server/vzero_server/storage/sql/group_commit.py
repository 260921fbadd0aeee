"""The writer thread, which commits waiting jobs together."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from vzero_server.errors import StorageFullError
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.sql.database import SqlDatabase

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class _Job:
    run: Callable[[Connection], Any]
    rows: int
    future: "Future[Any]" = field(default_factory=Future)


class GroupCommitWriter:
    """Runs jobs in order on one thread, and commits those that wait together.

    Jobs that arrive during a commit share the next transaction, up to ``group_rows`` rows. A
    future resolves after the commit of its job. If a job raises, its own writes are rolled back
    and the other jobs commit.

    Attributes:
        name: See ``Monitored``.
        busy_since: When the running transaction began, on the monotonic clock; None if idle.
    """

    name = "writer"

    def __init__(
        self, database: SqlDatabase, *, group_rows: int = 8192, metrics: Metrics | None = None
    ) -> None:
        self.busy_since: float | None = None
        self._database = database
        self._metrics = metrics or Metrics()
        self._group_rows = group_rows
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="vzero-writer", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """See ``Monitored``."""
        return self._thread.is_alive()

    def submit(self, run: Callable[[Connection], T], *, rows: int = 1) -> "Future[T]":
        """Queue a job.

        Args:
            run: Called on the writer thread inside a transaction.
            rows: About how many rows it writes; limits the size of a group.

        Returns:
            A future of the result of ``run``, resolved once the job is durable. It raises
            ``StorageFullError`` if no space is left, or the error of ``run``.

        Raises:
            RuntimeError: The writer is closed.
        """
        job = _Job(run, rows)
        with self._changed:
            if self._closed:
                raise RuntimeError("the log is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Commit queued jobs and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while group := self._take():
            self.busy_since = began = time.monotonic()
            self._commit(group)
            self.busy_since = None
            self._metrics.commit_seconds.observe(time.monotonic() - began)

    def _take(self) -> list[_Job]:
        """Wait for jobs and take those of the next transaction; none once closed and drained."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            group: list[_Job] = []
            rows = 0
            while self._jobs and (not group or rows + self._jobs[0].rows <= self._group_rows):
                group.append(self._jobs.popleft())
                rows += group[-1].rows
            return group

    def _commit(self, group: list[_Job]) -> None:
        group = [job for job in group if job.future.set_running_or_notify_cancel()]
        results: list[tuple[Any, Exception | None]] = []
        try:
            with self._database.writes.begin() as connection:
                results = [_attempt(job, connection) for job in group]
        except Exception as error:
            reason: Exception = error
            if self._database.is_full(error):
                reason = StorageFullError("no space left to store outcomes")
            else:
                logger.exception("a commit failed")
            results = [(None, reason)] * len(group)
        for job, (result, failure) in zip(group, results, strict=True):
            if failure is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(failure)


def _attempt(job: _Job, connection: Connection) -> tuple[Any, Exception | None]:
    """Run a job in a savepoint, so that its failure does not roll back the others."""
    try:
        with connection.begin_nested():
            return job.run(connection), None
    except DatabaseError:
        # The database may have rolled back the whole transaction, savepoint or not.
        raise
    except Exception as error:
        return None, error
