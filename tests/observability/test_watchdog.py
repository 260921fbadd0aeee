"""Faults that the watchdog detects."""

import asyncio
import logging
import threading
from dataclasses import dataclass

import pytest

from tests.waiting import until
from vzero_server.observability.liveness import MonitoredTask, Worker
from vzero_server.observability.watchdog import Watchdog


@dataclass(eq=False)
class Part:
    name: str = "part"
    alive: bool = True
    busy_since: float | None = None


class Busy:
    """A part that runs another job at every check."""

    name = "busy"
    alive = True
    checks = 0

    @property
    def busy_since(self) -> float:
        self.checks += 1
        return float(self.checks)


async def first_fault(watchdog: Watchdog, fault_seen: asyncio.Event) -> str:
    await fault_seen.wait()
    assert watchdog.fault is not None
    return watchdog.fault


async def test_a_job_that_hangs_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    fault_seen, process_ended, worker = asyncio.Event(), threading.Event(), Worker("test")
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.4, grace=0.1, leave=process_ended.set)
    watchdog.watch(worker)
    release = threading.Event()
    job = worker.submit(release.wait)
    assert "test has run one job for" in await first_fault(watchdog, fault_seen)
    await asyncio.to_thread(process_ended.wait)
    # The log contains the stack of the hanging thread.
    assert "release.wait" in caplog.text or "in wait" in caplog.text
    release.set()
    job.result()
    watchdog.close()
    worker.shutdown()


async def test_many_short_jobs_are_not_a_fault() -> None:
    fault_seen, part = asyncio.Event(), Busy()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.4, grace=0.1, leave=lambda: None)
    watchdog.watch(part)
    # A part that ran the same job in four checks would be a fault.
    await until(lambda: part.checks > 12)
    watchdog.close()
    assert watchdog.fault is None


async def test_a_part_that_has_died_is_a_fault() -> None:
    fault_seen, part = asyncio.Event(), Part()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.2, grace=10, leave=lambda: None)
    watchdog.watch(part)
    part.alive = False
    assert await first_fault(watchdog, fault_seen) == "part has died"
    watchdog.close()


async def test_a_task_that_has_ended_is_a_fault() -> None:
    fault_seen = asyncio.Event()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.2, grace=10, leave=lambda: None)
    watchdog.watch(MonitoredTask("dispatcher", asyncio.create_task(asyncio.sleep(0.01))))
    assert await first_fault(watchdog, fault_seen) == "dispatcher has died"
    watchdog.close()


async def test_a_blocked_event_loop_is_a_fault() -> None:
    fault_seen, process_ended = asyncio.Event(), threading.Event()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.4, grace=0.1, leave=process_ended.set)
    await asyncio.sleep(0.3)
    # Blocks the event loop until the watchdog ends the process.
    process_ended.wait()
    assert watchdog.fault is not None
    assert "event loop" in watchdog.fault
    watchdog.close()


async def test_a_closed_watchdog_does_not_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    fault_seen, part, process_ended = asyncio.Event(), Part(alive=False), threading.Event()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.2, grace=60, leave=process_ended.set)
    watchdog.watch(part)
    with caplog.at_level(logging.CRITICAL):
        await first_fault(watchdog, fault_seen)
        watchdog.close()
    # Its thread has ended.
    assert not process_ended.is_set()
