import asyncio
import logging
import threading
import time
from dataclasses import dataclass

import pytest

from vzero_server.observability.liveness import MonitoredTask, Worker
from vzero_server.observability.watchdog import Watchdog


@dataclass(eq=False)
class Part:
    name: str = "part"
    alive: bool = True
    busy_since: float | None = None


async def noticed(watchdog: Watchdog, told: asyncio.Event) -> str:
    async with asyncio.timeout(10):
        await told.wait()
    assert watchdog.fault is not None
    return watchdog.fault


async def test_a_job_that_hangs_is_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    told, left, worker = asyncio.Event(), threading.Event(), Worker("test")
    watchdog = Watchdog(told.set, hang_timeout=0.4, grace=0.1, leave=left.set)
    watchdog.watch(worker)
    release = threading.Event()
    job = worker.submit(release.wait, 10)
    assert "test has run one job for" in await noticed(watchdog, told)
    assert await asyncio.to_thread(left.wait, 10)
    # Where it hangs stands in the log.
    assert "release.wait" in caplog.text or "in wait" in caplog.text
    release.set()
    job.result()
    watchdog.close()
    worker.shutdown()


async def test_many_short_jobs_are_no_fault() -> None:
    told, part = asyncio.Event(), Part()
    watchdog = Watchdog(told.set, hang_timeout=0.4, grace=0.1, leave=lambda: None)
    watchdog.watch(part)
    for _ in range(50):
        part.busy_since = time.monotonic()
        await asyncio.sleep(0.02)
    watchdog.close()
    assert watchdog.fault is None


async def test_a_part_that_died_is_a_fault() -> None:
    told, part = asyncio.Event(), Part()
    watchdog = Watchdog(told.set, hang_timeout=0.2, grace=10, leave=lambda: None)
    watchdog.watch(part)
    part.alive = False
    assert await noticed(watchdog, told) == "part has died"
    watchdog.close()


async def test_a_task_that_ended_is_a_fault() -> None:
    told = asyncio.Event()
    watchdog = Watchdog(told.set, hang_timeout=0.2, grace=10, leave=lambda: None)
    watchdog.watch(MonitoredTask("dispatcher", asyncio.create_task(asyncio.sleep(0.01))))
    assert await noticed(watchdog, told) == "dispatcher has died"
    watchdog.close()


async def test_an_event_loop_that_is_held_up_is_a_fault() -> None:
    told, left = asyncio.Event(), threading.Event()
    watchdog = Watchdog(told.set, hang_timeout=0.4, grace=0.1, leave=left.set)
    await asyncio.sleep(0.3)
    time.sleep(1.5)
    assert left.is_set()
    assert watchdog.fault is not None
    assert "event loop" in watchdog.fault
    watchdog.close()


async def test_a_process_that_ended_well_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    told, part, left = asyncio.Event(), Part(alive=False), threading.Event()
    watchdog = Watchdog(told.set, hang_timeout=0.2, grace=0.3, leave=left.set)
    watchdog.watch(part)
    with caplog.at_level(logging.CRITICAL):
        await noticed(watchdog, told)
        watchdog.close()
    assert not left.wait(0.5)
