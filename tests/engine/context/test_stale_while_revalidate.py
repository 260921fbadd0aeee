"""When what was read for one context does for another."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from tests.clock import Clock
from tests.engine.estimators.test_batcher import Adder, encoded
from tests.waiting import settle
from vzero_server.engine.context import stale_while_revalidate
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.context.stale_while_revalidate import Result, StaleWhileRevalidateCache


class Log:
    """Gives the number of the reading; counts them, and makes them wait or fail.

    A reading takes some seconds by the clock, and as long as it is held.
    """

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.readings = 0
        self.clock = clock
        self.seconds = seconds
        self.broken = False
        self.released = asyncio.Event()
        self.released.set()

    async def read(self) -> int:
        self.readings += 1
        number = self.readings
        await asyncio.sleep(0)
        await self.released.wait()
        self.clock.now += self.seconds
        if self.broken:
            raise OSError("the log cannot be read")
        return number


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which readings grow old."""
    clock = Clock()
    monkeypatch.setattr(stale_while_revalidate, "time", clock)
    return clock


def context() -> CachedContext:
    return encoded(0, Adder())


def asking(
    readings: StaleWhileRevalidateCache[str, int], log: Log, rows: int = 100
) -> Callable[[CachedContext], Awaitable[int | None]]:
    return lambda one: readings.get("p", one, rows, log.read)


async def test_a_context_is_read_once_and_so_are_those_after_it(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.02, lifetime=60.0), Log(clock)
    ask, first = asking(readings, log), context()
    assert [await ask(first), await ask(first), await ask(context())] == [1, 1, 1]
    assert await readings.get("another", context(), 100, log.read) == 2


async def test_one_that_has_grown_by_a_quarter_is_still_the_same(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.02, lifetime=60.0), Log(clock)
    assert await asking(readings, log, 100)(context()) == 1
    assert readings.covers("p", 125)
    assert await asking(readings, log, 125)(context()) == 1
    assert not readings.covers("p", 126)
    assert await asking(readings, log, 126)(context()) == 2


async def test_how_long_a_reading_does_depends_on_its_cost(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.1), Log(clock, seconds=0.02)
    ask = asking(readings, log)
    assert await ask(context()) == 1
    assert await ask(context()) == 1
    clock.now += 0.19
    assert await ask(context()) == 1
    clock.now += 0.06
    # Whoever asks when it is time for another does not wait for that, but is told of it later.
    late = context()
    assert [await ask(late), await ask(context())] == [1, 1]
    await settle()
    assert [await ask(late), await ask(context()), log.readings] == [2, 2, 2]


async def test_contexts_of_one_moment_share_what_is_under_way(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.02), Log(clock, seconds=0.02)
    ask = asking(readings, log)
    assert await asyncio.gather(*(ask(context()) for _ in range(5))) == [1] * 5


async def test_where_none_may_stand_in_each_context_is_read(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.0), Log(clock, seconds=0.01)
    ask = asking(readings, log)
    assert sorted(await asyncio.gather(*(ask(context()) for _ in range(3)))) == [1, 2, 3]  # type: ignore[type-var]


async def test_a_reading_that_failed_is_made_again(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.02, lifetime=60.0), Log(clock)
    ask, one = asking(readings, log), context()
    log.broken = True
    with pytest.raises(OSError, match="cannot be read"):
        await ask(one)
    assert readings.peek(one) is None
    log.broken = False
    assert await ask(one) == 2


async def test_one_that_is_no_longer_good_is_made_again(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.02, lifetime=60.0), Log(clock)
    one = context()

    async def ask(least: int) -> int | None:
        def valid(result: Result[int]) -> bool:
            return result.value >= least

        return await readings.get("p", one, 100, log.read, valid=valid)

    assert [await ask(1), await ask(1), await ask(2), await ask(2)] == [1, 1, 2, 2]


async def test_an_impatient_caller_is_not_kept_and_a_later_one_finds_it(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.02), Log(clock, seconds=0.1)
    log.released.clear()
    one = context()
    assert await readings.get("p", one, 100, log.read, patience=0.01) is None
    log.released.set()
    assert await readings.get("p", one, 100, log.read) == 1
    found = readings.peek(one)
    assert found is not None
    assert (found.value, found.rows) == (1, 100)


async def test_a_caller_that_leaves_does_not_take_the_reading_along(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.02), Log(clock, seconds=0.05)
    log.released.clear()
    ask, one = asking(readings, log), context()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(one), 0.01)  # type: ignore[arg-type]
    log.released.set()
    assert [await ask(one), log.readings] == [1, 1]


async def test_a_context_that_is_gone_is_not_kept(clock: Clock) -> None:
    readings, log = StaleWhileRevalidateCache[str, int](share=0.02), Log(clock)
    one = context()
    await asking(readings, log)(one)
    assert len(readings._by_context) == 1
    del one
    gc.collect()
    assert not readings._by_context
