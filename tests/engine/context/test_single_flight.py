"""Work shared by callers that come and go."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.waiting import settle, until
from vzero_server.engine.context.single_flight import Job, SingleFlight
from vzero_server.observability.liveness import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("test")
    yield made
    made.shutdown()


class Maker:
    """Makes its number on the worker, and counts how often it did."""

    def __init__(self) -> None:
        self.made = 0

    async def __call__(self, job: Job[int]) -> int:
        return await job.run(self.make)

    def make(self) -> int:
        self.made += 1
        return self.made


async def test_callers_share_what_is_under_way(worker: Worker) -> None:
    work, make = SingleFlight[str, int](worker), Maker()
    assert await asyncio.gather(*(work.get("a", make) for _ in range(9))) == [1] * 9
    assert await work.get("a", make) == 2
    assert len(work) == 0


async def test_what_nobody_waits_for_is_dropped_before_it_begins(worker: Worker) -> None:
    work, make, release = SingleFlight[str, int](worker), Maker(), threading.Event()
    held = worker.submit(release.wait)
    callers = [asyncio.create_task(work.get("a", make)) for _ in range(2)]
    late = asyncio.create_task(asyncio.wait_for(work.get("a", make), 0.05))
    with pytest.raises(TimeoutError):
        await late
    for caller in callers:
        caller.cancel()
    await settle()
    release.set()
    held.result()
    # The worker has come to the end of its queue.
    worker.submit(int).result()
    await settle()
    assert (make.made, len(work)) == (0, 0)


async def test_one_caller_that_stays_is_enough(worker: Worker) -> None:
    work, make, release = SingleFlight[str, int](worker), Maker(), threading.Event()
    worker.submit(release.wait)
    leaving, staying = (asyncio.create_task(work.get("a", make)) for _ in range(2))
    await settle()
    leaving.cancel()
    await settle()
    release.set()
    assert await staying == 1


async def test_what_has_begun_is_finished(worker: Worker) -> None:
    work = SingleFlight[str, bool](worker)
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def long() -> bool:
        begun.set()
        release.wait()
        ended.set()
        return True

    caller = asyncio.create_task(work.get("a", lambda job: job.run(long)))
    await until(begun.is_set)
    caller.cancel()
    await settle()
    # Who comes now finds it under way.
    again = asyncio.create_task(work.get("a", lambda job: job.run(lambda: False)))
    await settle()
    release.set()
    assert await again
    assert ended.is_set()


async def test_after_a_drop_it_is_started_anew(worker: Worker) -> None:
    work, make, release = SingleFlight[str, int](worker), Maker(), threading.Event()
    worker.submit(release.wait)
    leaving = asyncio.create_task(work.get("a", make))
    await settle()
    leaving.cancel()
    again = asyncio.create_task(work.get("a", make))
    await settle()
    release.set()
    assert await again == 1


async def test_a_refresh_is_wanted_though_nobody_waits(worker: Worker) -> None:
    work, make = SingleFlight[str, int](worker), Maker()
    work.refresh("a", make)
    work.refresh("a", make)
    leaving = asyncio.create_task(work.get("a", make))
    await asyncio.sleep(0)
    leaving.cancel()
    await until(lambda: len(work) == 0)
    assert make.made == 1


async def test_a_failure_reaches_every_caller(worker: Worker) -> None:
    work = SingleFlight[str, int](worker)

    async def fail(job: Job[int]) -> int:
        raise LookupError("on purpose")

    found = await asyncio.gather(*(work.get("a", fail) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [LookupError] * 3
