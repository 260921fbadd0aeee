"""Workers that report since when they run a job, and whether they are alive."""

import sys
import threading
import time

from tests.waiting import wait_until
from vzero_server.observability.liveness import Worker


def test_a_worker_reports_since_when_it_is_busy() -> None:
    worker, release = Worker("test"), threading.Event()
    assert (worker.alive, worker.busy_since) == (True, None)
    started = threading.Event()

    def job(number: int) -> int:
        started.set()
        release.wait()
        return number

    before = time.monotonic()
    first = worker.submit(job, 1)
    started.wait()
    busy_since = worker.busy_since
    assert busy_since is not None
    assert before <= busy_since <= time.monotonic()
    release.set()
    assert first.result() == 1
    assert worker.submit(job, 2).result() == 2
    worker.shutdown()
    assert worker.busy_since is None


def test_busy_since_is_the_start_of_the_oldest_job() -> None:
    worker, release = Worker("test", 2), threading.Event()
    started = [threading.Event(), threading.Event()]

    def job(number: int) -> None:
        started[number].set()
        release.wait()

    jobs = [worker.submit(job, 0)]
    started[0].wait()
    first = worker.busy_since
    assert first is not None
    jobs.append(worker.submit(job, 1))
    started[1].wait()
    assert worker.busy_since == first
    release.set()
    for future in jobs:
        future.result()
    worker.shutdown()


def test_a_worker_whose_thread_has_died_is_not_alive() -> None:
    worker = Worker("test")
    started, release = threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        release.wait()

    future = worker.submit(job)
    started.wait()
    # SystemExit in a callback ends the thread of an executor.
    future.add_done_callback(lambda _: sys.exit())
    release.set()
    wait_until(lambda: not worker.alive)
