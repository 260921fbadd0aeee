"""When the result computed for one context serves another."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from tests.clock import Clock
from tests.engine.estimators.adding_estimator import AddingEstimator, number_context
from tests.waiting import settle
from vzero_server.engine.context import stale_while_revalidate
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.context.stale_while_revalidate import Result, StaleWhileRevalidateCache

IntCache = StaleWhileRevalidateCache[str, int]


class Computation:
    """Returns how often it ran; takes time by the clock, and can be held or fail.

    Attributes:
        runs: How often it was started.
        seconds: How long a run takes, by the clock.
        release: Lets runs go on; set from the beginning.
        broken: Whether runs fail.
    """

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self._clock = clock
        self.runs = 0
        self.seconds = seconds
        self.broken = False
        self.release = asyncio.Event()
        self.release.set()

    async def run(self) -> int:
        self.runs += 1
        number = self.runs
        await asyncio.sleep(0)
        await self.release.wait()
        self._clock.now += self.seconds
        if self.broken:
            raise OSError("the log cannot be read")
        return number


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which results become stale."""
    clock = Clock()
    monkeypatch.setattr(stale_while_revalidate, "time", clock)
    return clock


def new_context() -> CachedContext:
    return number_context(0, AddingEstimator())


def getter(
    cache: IntCache, computation: Computation, rows: int = 100
) -> Callable[[CachedContext], Awaitable[int | None]]:
    """A lookup of the result for a context of one policy."""
    return lambda context: cache.get("p", context, rows, computation.run)


async def test_a_result_is_computed_once_and_serves_later_contexts(clock: Clock) -> None:
    cache, computation = IntCache(share=0.02, lifetime=60.0), Computation(clock)
    get, first = getter(cache, computation), new_context()
    assert [await get(first), await get(first), await get(new_context())] == [1, 1, 1]
    assert await cache.get("another", new_context(), 100, computation.run) == 2


async def test_a_result_serves_contexts_that_are_up_to_a_quarter_longer(clock: Clock) -> None:
    cache, computation = IntCache(share=0.02, lifetime=60.0), Computation(clock)
    assert await getter(cache, computation, 100)(new_context()) == 1
    assert cache.covers("p", 125)
    assert await getter(cache, computation, 125)(new_context()) == 1
    assert not cache.covers("p", 126)
    assert await getter(cache, computation, 126)(new_context()) == 2


async def test_a_result_stays_fresh_in_proportion_to_its_cost(clock: Clock) -> None:
    cache, computation = IntCache(share=0.1), Computation(clock, seconds=0.02)
    get = getter(cache, computation)
    assert await get(new_context()) == 1
    assert await get(new_context()) == 1
    clock.now += 0.19
    assert await get(new_context()) == 1
    clock.now += 0.06
    # A caller that arrives when a new result is due gets the old one, and later the new one.
    late = new_context()
    assert [await get(late), await get(new_context())] == [1, 1]
    await settle()
    assert [await get(late), await get(new_context()), computation.runs] == [2, 2, 2]


async def test_concurrent_contexts_share_one_computation(clock: Clock) -> None:
    cache, computation = IntCache(share=0.02), Computation(clock, seconds=0.02)
    get = getter(cache, computation)
    assert await asyncio.gather(*(get(new_context()) for _ in range(5))) == [1] * 5


async def test_without_a_share_every_context_has_its_own_result(clock: Clock) -> None:
    cache, computation = IntCache(share=0.0), Computation(clock, seconds=0.01)
    get = getter(cache, computation)
    results = await asyncio.gather(*(get(new_context()) for _ in range(3)))
    assert sorted(results) == [1, 2, 3]  # type: ignore[type-var]


async def test_a_failed_computation_is_repeated(clock: Clock) -> None:
    cache, computation = IntCache(share=0.02, lifetime=60.0), Computation(clock)
    get, context = getter(cache, computation), new_context()
    computation.broken = True
    with pytest.raises(OSError, match="cannot be read"):
        await get(context)
    assert cache.peek(context) is None
    computation.broken = False
    assert await get(context) == 2


async def test_an_invalid_result_is_computed_again(clock: Clock) -> None:
    cache, computation = IntCache(share=0.02, lifetime=60.0), Computation(clock)
    context = new_context()

    async def get(least: int) -> int | None:
        def valid(result: Result[int]) -> bool:
            return result.value >= least

        return await cache.get("p", context, 100, computation.run, valid=valid)

    assert [await get(1), await get(1), await get(2), await get(2)] == [1, 1, 2, 2]


async def test_a_caller_waits_at_most_its_patience_and_a_later_one_gets_the_result(
    clock: Clock,
) -> None:
    cache, computation = IntCache(share=0.02), Computation(clock, seconds=0.1)
    context = new_context()
    computation.release.clear()
    assert await cache.get("p", context, 100, computation.run, patience=0.01) is None
    computation.release.set()
    assert await cache.get("p", context, 100, computation.run) == 1
    result = cache.peek(context)
    assert result is not None
    assert (result.value, result.rows) == (1, 100)


async def test_a_caller_that_leaves_does_not_cancel_the_computation(clock: Clock) -> None:
    cache, computation = IntCache(share=0.02), Computation(clock, seconds=0.05)
    computation.release.clear()
    get, context = getter(cache, computation), new_context()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(get(context), 0.01)  # type: ignore[arg-type]
    computation.release.set()
    assert [await get(context), computation.runs] == [1, 1]


async def test_results_of_deleted_contexts_are_dropped(clock: Clock) -> None:
    cache, computation = IntCache(share=0.02), Computation(clock)
    context = new_context()
    await getter(cache, computation)(context)
    assert len(cache._by_context) == 1
    del context
    gc.collect()
    assert not cache._by_context
