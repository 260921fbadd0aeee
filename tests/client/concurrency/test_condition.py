"""Both conditions wait for a predicate, a notification or the end of the time."""

import asyncio
import threading

from vzero._concurrency import AsyncCondition, Condition


def test_a_thread_waits_until_the_predicate_holds() -> None:
    condition = Condition()
    values: list[int] = []
    seen: list[int] = []

    def wait() -> None:
        with condition:
            condition.wait_until(lambda: len(values) == 3)
            seen.extend(values)

    waiter = threading.Thread(target=wait)
    waiter.start()
    for value in range(3):
        with condition:
            values.append(value)
            condition.notify_all()
    waiter.join()
    assert seen == [0, 1, 2]


def test_a_thread_stops_waiting_when_the_time_is_up() -> None:
    condition = Condition()
    with condition:
        condition.wait_until(lambda: False, 0.01)
        condition.wait_change(0.01)


def test_the_lock_is_free_inside_a_released_block() -> None:
    condition = Condition()
    with condition:
        with condition.released():
            assert condition.acquire(blocking=False)
            condition.release()
        other = threading.Thread(target=lambda: results.append(condition.acquire(blocking=False)))
        results: list[bool] = []
        other.start()
        other.join()
    assert results == [False]


async def test_a_task_waits_until_the_predicate_holds() -> None:
    condition = AsyncCondition()
    values: list[int] = []

    async def wait() -> list[int]:
        async with condition:
            await condition.wait_until(lambda: len(values) == 3)
            return list(values)

    waiter = asyncio.create_task(wait())
    for value in range(3):
        async with condition:
            values.append(value)
            condition.notify_all()
        await asyncio.sleep(0)
    assert await waiter == [0, 1, 2]


async def test_a_task_stops_waiting_when_the_time_is_up() -> None:
    condition = AsyncCondition()
    async with condition, condition.released():
        await condition.wait_until(lambda: False, 0.01)
        await condition.wait_change(0.01)


async def test_a_notification_ends_the_wait_for_a_change() -> None:
    condition = AsyncCondition()
    waiter = asyncio.create_task(condition.wait_change(3600))
    await asyncio.sleep(0)
    condition.notify_all()
    await waiter


async def test_cancellation_ends_the_wait() -> None:
    condition = AsyncCondition()
    waiter = asyncio.create_task(condition.wait_until(lambda: False))
    await asyncio.sleep(0)
    waiter.cancel()
    (result,) = await asyncio.gather(waiter, return_exceptions=True)
    assert isinstance(result, asyncio.CancelledError)
