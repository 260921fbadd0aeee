"""Ends the process when a thread has died or hangs."""

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from vzero_server.observability.liveness import Monitored

logger = logging.getLogger(__name__)

FAULT_EXIT_CODE = 70
"""Exit code of a server that ends because of a fault (``EX_SOFTWARE``)."""

# Longest time between two checks, in s.
_PERIOD = 1.0


@dataclass(eq=False, slots=True)
class _MonitoredLoop:
    """The event loop, which counts as busy until it has answered a ping."""

    loop: asyncio.AbstractEventLoop
    name: str = "event loop"
    alive: bool = True
    busy_since: float | None = None

    def ping(self) -> None:
        """Send a ping, unless one is unanswered."""
        if self.busy_since is None:
            self.busy_since = time.monotonic()
            self.loop.call_soon_threadsafe(self._pong)

    def _pong(self) -> None:
        self.busy_since = None


@dataclass(slots=True)
class _RunningJob:
    """A job, by its start, and the time for which it has been seen to run, in s."""

    busy_since: float
    seconds: float = 0.0


class Watchdog:
    """Checks the parts of a server from a thread of its own.

    A part that has died, or that has run one job for longer than ``hang_timeout``, is a fault.
    After a fault no call is certain to get a reply, and a thread that hangs cannot be ended.
    So a fault ends the process: ``on_fault`` may end it in order, within ``grace`` seconds.

    Attributes:
        fault: The first fault; None if there is none.
    """

    def __init__(
        self,
        on_fault: Callable[[], None],
        *,
        hang_timeout: float,
        grace: float,
        leave: Callable[[], None] | None = None,
    ) -> None:
        """Start to check.

        Args:
            on_fault: Called on the running event loop after the first fault.
            hang_timeout: Seconds a job may run.
            grace: Seconds between a fault and ``leave``.
            leave: Ends the process; called on the thread of the watchdog.
        """
        self.fault: str | None = None
        self._on_fault = on_fault
        self._hang_timeout = hang_timeout
        self._grace = grace
        self._leave = leave or leave_now
        self._loop = asyncio.get_running_loop()
        self._monitored_loop = _MonitoredLoop(self._loop)
        self._parts: list[Monitored] = [self._monitored_loop]
        self._running_jobs: dict[Monitored, _RunningJob] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vzero-watchdog", daemon=True)
        self._thread.start()

    def watch(self, *parts: Monitored) -> None:
        """Check further parts."""
        self._parts.extend(parts)

    def close(self) -> None:
        """Stop checking."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        period = min(_PERIOD, self._hang_timeout / 4)
        last_check = time.monotonic()
        while not self._closed.wait(period):
            self._monitored_loop.ping()
            now = time.monotonic()
            # The time for which the whole process was stopped is not counted.
            self.fault = self._find_fault(min(now - last_check, 2 * period))
            last_check = now
            if self.fault is not None:
                self._end_process()
                return

    def _find_fault(self, elapsed: float) -> str | None:
        """Return the first fault, ``elapsed`` seconds after the last check."""
        for part in tuple(self._parts):
            if not part.alive:
                return f"{part.name} has died"
            busy_since = part.busy_since
            job = self._running_jobs.get(part)
            if busy_since is None:
                self._running_jobs.pop(part, None)
            elif job is None or job.busy_since != busy_since:
                self._running_jobs[part] = _RunningJob(busy_since)
            else:
                job.seconds += elapsed
                if job.seconds > self._hang_timeout:
                    return f"{part.name} has run one job for {job.seconds:.0f} s"
        return None

    def _end_process(self) -> None:
        logger.critical("%s; ending the process", self.fault)
        logger.critical("stacks of all threads:\n%s", _stacks())
        self._loop.call_soon_threadsafe(self._on_fault)
        if not self._closed.wait(self._grace):
            logger.critical("the process did not end within %.0f s", self._grace)
            self._leave()


def leave_now() -> None:
    """End the process at once. Threads that hang cannot be joined; durable data stays durable."""
    logging.shutdown()
    os._exit(FAULT_EXIT_CODE)


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
