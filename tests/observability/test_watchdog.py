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
    """A part that is at another job whenever someone looks."""

    name = "busy"
    alive = True
    looks = 0

    @property
    def busy_since(self) -> float:
        self.looks += 1
        return float(self.looks)


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
    # Where it hangs stands in the log.
    assert "release.wait" in caplog.text or "in wait" in caplog.text
    release.set()
    job.result()
    watchdog.close()
    worker.shutdown()


async def test_many_short_jobs_are_no_fault() -> None:
    fault_seen, part = asyncio.Event(), Busy()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.4, grace=0.1, leave=lambda: None)
    watchdog.watch(part)
    # A part at one job is a fault after four looks.
    await until(lambda: part.looks > 12)
    watchdog.close()
    assert watchdog.fault is None


async def test_a_part_that_died_is_a_fault() -> None:
    fault_seen, part = asyncio.Event(), Part()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.2, grace=10, leave=lambda: None)
    watchdog.watch(part)
    part.alive = False
    assert await first_fault(watchdog, fault_seen) == "part has died"
    watchdog.close()


async def test_a_task_that_ended_is_a_fault() -> None:
    fault_seen = asyncio.Event()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.2, grace=10, leave=lambda: None)
    watchdog.watch(MonitoredTask("dispatcher", asyncio.create_task(asyncio.sleep(0.01))))
    assert await first_fault(watchdog, fault_seen) == "dispatcher has died"
    watchdog.close()


async def test_an_event_loop_that_is_held_up_is_a_fault() -> None:
    fault_seen, process_ended = asyncio.Event(), threading.Event()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.4, grace=0.1, leave=process_ended.set)
    await asyncio.sleep(0.3)
    # Holds the loop for as long as it takes.
    process_ended.wait()
    assert watchdog.fault is not None
    assert "event loop" in watchdog.fault
    watchdog.close()


async def test_a_process_that_ended_well_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    fault_seen, part, process_ended = asyncio.Event(), Part(alive=False), threading.Event()
    watchdog = Watchdog(fault_seen.set, hang_timeout=0.2, grace=60, leave=process_ended.set)
    watchdog.watch(part)
    with caplog.at_level(logging.CRITICAL):
        await first_fault(watchdog, fault_seen)
        watchdog.close()
    # Its thread has ended.
    assert not process_ended.is_set()
