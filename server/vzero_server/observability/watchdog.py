"""Notices threads that have died or hang."""

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
"""Exit code of a server that a dead or hanging part of it has ended (``EX_SOFTWARE``)."""

# Longest time between two looks, in s.
_PERIOD = 1.0


@dataclass(eq=False, slots=True)
class _WatchedLoop:
    """The event loop, which is busy until it has answered."""

    loop: asyncio.AbstractEventLoop
    name: str = "event loop"
    alive: bool = True
    busy_since: float | None = None

    def ask(self) -> None:
        """Ask for a sign of life, unless one is awaited."""
        if self.busy_since is None:
            self.busy_since = time.monotonic()
            self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self.busy_since = None


@dataclass(slots=True)
class _Sighting:
    """How long the same job has been seen to run, in s."""

    busy_since: float
    seconds: float = 0.0


class Watchdog:
    """Looks after the parts of a server from a thread of its own.

    A part that has died, or whose running job is older than ``hang_timeout``, is a fault.
    No request can be trusted to be answered after one, and a thread that hangs cannot be
    ended, so a fault ends the process: ``on_fault`` may bring it to a good end, for which
    it gets ``grace`` seconds.

    Attributes:
        fault: What is wrong; None if nothing is.
    """

    def __init__(
        self,
        on_fault: Callable[[], None],
        *,
        hang_timeout: float,
        grace: float,
        leave: Callable[[], None] | None = None,
    ) -> None:
        """Start to look.

        Args:
            on_fault: Called on the running event loop after the first fault.
            hang_timeout: Seconds a job may run.
            grace: Seconds from a fault until ``leave``.
            leave: Ends the process; called on the watchdog's thread.
        """
        self.fault: str | None = None
        self._on_fault = on_fault
        self._hang_timeout = hang_timeout
        self._grace = grace
        self._leave = leave or leave_now
        self._loop = asyncio.get_running_loop()
        self._pulse = _WatchedLoop(self._loop)
        self._watched: list[Monitored] = [self._pulse]
        self._seen: dict[Monitored, _Sighting] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="vzero-watchdog", daemon=True)
        self._thread.start()

    def watch(self, *parts: Monitored) -> None:
        """Look after further parts."""
        self._watched.extend(parts)

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        self._thread.join()

    def _look_after(self) -> None:
        period = min(_PERIOD, self._hang_timeout / 4)
        before = time.monotonic()
        while not self._closed.wait(period):
            self._pulse.ask()
            now = time.monotonic()
            # What the whole process was stopped for is nobody's fault.
            self.fault = self._find_fault(min(now - before, 2 * period))
            before = now
            if self.fault is not None:
                self._give_notice()
                return

    def _find_fault(self, elapsed: float) -> str | None:
        for part in tuple(self._watched):
            if not part.alive:
                return f"{part.name} has died"
            since = part.busy_since
            seen = self._seen.get(part)
            if since is None:
                self._seen.pop(part, None)
            elif seen is None or seen.busy_since != since:
                self._seen[part] = _Sighting(since)
            else:
                seen.seconds += elapsed
                if seen.seconds > self._hang_timeout:
                    return f"{part.name} has been at one job for {seen.seconds:.0f} s"
        return None

    def _give_notice(self) -> None:
        logger.critical("%s; ending the process", self.fault)
        logger.critical("where the threads are:\n%s", _stacks())
        self._loop.call_soon_threadsafe(self._on_fault)
        if not self._closed.wait(self._grace):
            logger.critical("the process did not end in %.0f s", self._grace)
            self._leave()


def leave_now() -> None:
    """End the process at once: what hangs cannot be waited for, what is durable stays so."""
    logging.shutdown()
    os._exit(FAULT_EXIT_CODE)


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
