"""Sends calls: as fast as they are answered, or at a given rate."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc

from load_tests.messages import WrongReplyError
from load_tests.tally import Tally

# Seconds a caller pauses after a failed call, as any caller should.
PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was answered: its name, and the prompts it was about."""

    rpc: str
    prompts: int


Caller = Callable[[], Awaitable[Done]]
"""Makes one call; raises ``grpc.RpcError`` or ``WrongReplyError`` when it fails."""


async def closed_loop(callers: Sequence[Caller], *, seconds: float, most_calls: int) -> Tally:
    """Let every caller make one call after the other.

    Args:
        callers: They run concurrently.
        seconds: No call is begun later; those begun are awaited.
        most_calls: Calls in all, at most.
    """
    tally = Tally()
    end = time.perf_counter() + seconds
    left = most_calls

    async def work(caller: Caller) -> None:
        nonlocal left
        while left > 0 and (began := time.perf_counter()) < end:
            left -= 1
            if not await _call(caller, began, tally):
                await asyncio.sleep(PAUSE)

    await asyncio.gather(*(work(caller) for caller in callers))
    return tally


async def open_loop(
    callers: Sequence[Caller], *, rate: float, seconds: float, most_calls: int
) -> Tally:
    """Make calls at a steady rate, whether or not earlier ones have been answered.

    A call that is late because all callers are busy is timed from when it was due, so
    that a server that stalls cannot hide it.

    Args:
        callers: Each makes one call at a time.
        rate: Calls per second.
        seconds: No call is begun later; those begun are awaited.
        most_calls: Calls in all, at most.
    """
    tally = Tally()
    idle: asyncio.Queue[Caller] = asyncio.Queue()
    for caller in callers:
        idle.put_nowait(caller)

    async def work(caller: Caller, began: float) -> None:
        await _call(caller, began, tally)
        idle.put_nowait(caller)

    start = time.perf_counter()
    count = min(most_calls, max(1, int(rate * seconds)))
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            due = start + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
                due = time.perf_counter()  # a timer is up to a millisecond late
            try:
                async with asyncio.timeout_at(_loop_time(start + seconds)):
                    caller = await idle.get()
            except TimeoutError:
                tally.unsent = count - number
                break
            group.create_task(work(caller, due))
    return tally


async def _call(caller: Caller, began: float, tally: Tally) -> bool:
    """Make a call and count it; whether it was answered."""
    try:
        done = await caller()
    except grpc.RpcError as error:
        assert isinstance(error, grpc.aio.AioRpcError)
        tally.failed(error.code().name)
        return False
    except WrongReplyError:
        tally.failed("WRONG_REPLY")
        return False
    tally.answered(done.rpc, time.perf_counter() - began, done.prompts)
    return True


def _loop_time(moment: float) -> float:
    """A moment of ``time.perf_counter`` on the event loop's clock."""
    return asyncio.get_running_loop().time() + moment - time.perf_counter()
