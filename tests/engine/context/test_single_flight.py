"""Jobs that several callers wait for, some of whom leave."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tests.waiting import settle, until
from vzero_server.engine.context.single_flight import Job, SingleFlight
from vzero_server.observability.liveness import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test")
    yield worker
    worker.shutdown()


class Counter:
    """Returns, from the worker, how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    async def __call__(self, job: Job[int]) -> int:
        return await job.run(self.count)

    def count(self) -> int:
        self.calls += 1
        return self.calls


async def test_concurrent_callers_share_one_job(worker: Worker) -> None:
    flights, counter = SingleFlight[str, int](worker), Counter()
    assert await asyncio.gather(*(flights.get("a", counter) for _ in range(9))) == [1] * 9
    assert await flights.get("a", counter) == 2
    assert len(flights) == 0


async def test_a_job_without_waiters_is_dropped_before_it_begins(worker: Worker) -> None:
    flights, counter, release = SingleFlight[str, int](worker), Counter(), threading.Event()
    blocking = worker.submit(release.wait)
    callers = [asyncio.create_task(flights.get("a", counter)) for _ in range(2)]
    late = asyncio.create_task(asyncio.wait_for(flights.get("a", counter), 0.05))
    with pytest.raises(TimeoutError):
        await late
    for caller in callers:
        caller.cancel()
    await settle()
    release.set()
    blocking.result()
    # The worker has reached the end of its queue.
    worker.submit(int).result()
    await settle()
    assert (counter.calls, len(flights)) == (0, 0)


async def test_a_job_runs_while_one_waiter_is_left(worker: Worker) -> None:
    flights, counter, release = SingleFlight[str, int](worker), Counter(), threading.Event()
    worker.submit(release.wait)
    leaving, staying = (asyncio.create_task(flights.get("a", counter)) for _ in range(2))
    await settle()
    leaving.cancel()
    await settle()
    release.set()
    assert await staying == 1


async def test_a_job_that_has_begun_is_finished_without_waiters(worker: Worker) -> None:
    flights = SingleFlight[str, bool](worker)
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> bool:
        begun.set()
        release.wait()
        ended.set()
        return True

    leaving = asyncio.create_task(flights.get("a", lambda job: job.run(slow)))
    await until(begun.is_set)
    leaving.cancel()
    await settle()
    # A later caller joins it.
    joining = asyncio.create_task(flights.get("a", lambda job: job.run(lambda: False)))
    await settle()
    release.set()
    assert await joining
    assert ended.is_set()


async def test_a_dropped_job_is_started_again_for_the_next_caller(worker: Worker) -> None:
    flights, counter, release = SingleFlight[str, int](worker), Counter(), threading.Event()
    worker.submit(release.wait)
    leaving = asyncio.create_task(flights.get("a", counter))
    await settle()
    leaving.cancel()
    returning = asyncio.create_task(flights.get("a", counter))
    await settle()
    release.set()
    assert await returning == 1


async def test_a_background_refresh_runs_without_waiters(worker: Worker) -> None:
    flights, counter = SingleFlight[str, int](worker), Counter()
    flights.refresh("a", counter)
    flights.refresh("a", counter)
    leaving = asyncio.create_task(flights.get("a", counter))
    await asyncio.sleep(0)
    leaving.cancel()
    await until(lambda: len(flights) == 0)
    assert counter.calls == 1


async def test_an_error_reaches_every_caller(worker: Worker) -> None:
    flights = SingleFlight[str, int](worker)

    async def fail(job: Job[int]) -> int:
        raise LookupError("the job fails")

    results = await asyncio.gather(
        *(flights.get("a", fail) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [LookupError] * 3
