"""Closed loop and open loop: calls sent after the last reply, or at a given rate."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc

from load_tests.messages import WrongReplyError
from load_tests.tally import Tally

PAUSE = 0.02
"""Pause of a caller after a failed call, in seconds."""


@dataclass(frozen=True, slots=True)
class CompletedCall:
    """A successful call: name of its RPC, and number of its prompts."""

    rpc: str
    prompts: int


Caller = Callable[[], Awaitable[CompletedCall]]
"""Makes one call; raises ``grpc.RpcError`` or ``WrongReplyError`` if it fails."""


async def closed_loop(callers: Sequence[Caller], *, seconds: float, most_calls: int) -> Tally:
    """Run callers concurrently; each makes its next call after the last has ended.

    Args:
        callers: The callers.
        seconds: Duration; calls in progress at its end are awaited.
        most_calls: Maximum number of calls.
    """
    tally = Tally()
    end = time.perf_counter() + seconds
    remaining = most_calls

    async def work(caller: Caller) -> None:
        nonlocal remaining
        while remaining > 0 and (began := time.perf_counter()) < end:
            remaining -= 1
            if not await _call(caller, began, tally):
                await asyncio.sleep(PAUSE)

    await asyncio.gather(*(work(caller) for caller in callers))
    return tally


async def open_loop(
    callers: Sequence[Caller], *, rate: float, seconds: float, most_calls: int
) -> Tally:
    """Make calls at a steady rate, independent of the replies.

    A call that is late because all callers are busy is timed from when it was due, so that the
    latencies include the stalls of a server.

    Args:
        callers: The callers; each makes one call at a time.
        rate: Calls per second.
        seconds: Duration; calls in progress at its end are awaited.
        most_calls: Maximum number of calls.
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
                due = time.perf_counter()  # timers fire up to a millisecond late
            try:
                async with asyncio.timeout_at(_loop_time(start + seconds)):
                    caller = await idle.get()
            except TimeoutError:
                tally.unsent = count - number
                break
            group.create_task(work(caller, due))
    return tally


async def _call(caller: Caller, began: float, tally: Tally) -> bool:
    """Make a call and count it; returns whether it succeeded."""
    try:
        call = await caller()
    except grpc.RpcError as error:
        assert isinstance(error, grpc.aio.AioRpcError)
        tally.failed(error.code().name)
        return False
    except WrongReplyError:
        tally.failed("WRONG_REPLY")
        return False
    tally.answered(call.rpc, time.perf_counter() - began, call.prompts)
    return True


def _loop_time(counter: float) -> float:
    """Convert a time of ``time.perf_counter`` to the clock of the event loop."""
    return asyncio.get_running_loop().time() + counter - time.perf_counter()
