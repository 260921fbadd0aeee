"""The threads of the edge."""

import threading

from vzero_server.api.workers import EdgeWorkers


async def test_the_threads_are_monitored_and_only_allocations_may_take_long() -> None:
    workers, release, started = EdgeWorkers(), threading.Event(), threading.Barrier(3)

    def hold() -> str:
        started.wait()
        release.wait()
        return threading.current_thread().name

    jobs = [worker.submit(hold) for worker in (workers.replies, workers.allocations)]
    started.wait()
    try:
        assert [part.name for part in workers.monitored] == ["replies", "allocations"]
        assert all(part.alive for part in workers.monitored)
        assert workers.replies.busy_since is not None
        assert workers.allocations.busy_since is None
    finally:
        release.set()
    assert [job.result() for job in jobs] == ["vzero-replies_0", "vzero-allocations_0"]
    assert await workers.replies.run(int, "12", base=3) == 5
    workers.close()
