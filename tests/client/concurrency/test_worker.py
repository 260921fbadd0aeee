"""Both workers run their function once."""

from vzero._concurrency import AsyncWorker, Worker, async_run_blocking, run_blocking


def test_a_thread_runs_the_function_once() -> None:
    calls: list[int] = []
    worker = Worker(lambda: calls.append(1), "test-worker")
    worker.join()
    assert not worker.started
    worker.start_if_possible()
    worker.start()
    worker.join()
    assert worker.started
    assert calls == [1]


async def test_a_task_runs_the_function_once() -> None:
    calls: list[int] = []

    async def run() -> None:
        calls.append(1)

    worker = AsyncWorker(run, "test-worker")
    worker.start_if_possible()
    await worker.join()
    assert not worker.started, "a task needs an event loop"
    worker.start()
    worker.start()
    await worker.join()
    assert worker.started
    assert calls == [1]


async def test_functions_that_block() -> None:
    assert run_blocking(sum, [1, 2]) == 3
    assert await async_run_blocking(sum, [1, 2]) == 3
