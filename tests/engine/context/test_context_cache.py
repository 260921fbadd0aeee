"""When contexts are fitted again, with an estimator whose fits cost what the test says."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.clock import Clock
from tests.engine.context.counting_estimator import CountedContext, CountingEstimator
from tests.engine.context.harness import window_harness
from tests.outcomes import sums
from tests.waiting import until
from vzero_server.engine.context import context_cache
from vzero_server.engine.context.context_cache import CachedContext, ContextCache
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.backbone import Backbone
from vzero_server.storage.base import OutcomeStore


@dataclass
class ContextHarness:
    """A store, and the contexts of its policies."""

    store: OutcomeStore
    contexts: ContextCache

    async def get(
        self, name: str = "p", step: int | None = None, min_version: int | None = None
    ) -> CachedContext:
        policy = await self.store.policy_version(name)
        ready = self.contexts.ready(policy, "icl", as_of_step=step, min_version=min_version)
        if ready is not None:
            return ready
        window = await self.contexts.window(policy, "icl", as_of_step=step)
        return await self.contexts.fit(policy, "icl", window, as_of_step=step)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which contexts become stale."""
    clock = Clock()
    monkeypatch.setattr(context_cache, "time", clock)
    return clock


@asynccontextmanager
async def context_harness(
    folder: Path, backbone: Backbone, estimator: CountingEstimator, max_bytes: int = 1 << 20
) -> AsyncIterator[ContextHarness]:
    async with window_harness(folder, backbone, rows=1000) as parts:
        contexts = ContextCache(
            parts.windows,
            {"icl": estimator},
            CountingEstimator(estimator.clock),
            min_rows=3,
            max_bytes=max_bytes,
            worker=parts.worker,
        )
        yield ContextHarness(parts.store, contexts)


async def test_an_unchanged_context_is_fitted_once(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    estimator = CountingEstimator(clock, 0.01)
    async with context_harness(tmp_path, tiny_backbone, estimator) as harness:
        await harness.store.append("p", sums(10))
        contexts = await asyncio.gather(*(harness.get() for _ in range(20)))
        await harness.get()
        assert estimator.fits == [10]
        assert {context.fitted.rows for context in contexts} == {10}


async def test_a_context_that_is_cheap_to_fit_is_always_the_newest(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    async with context_harness(tmp_path, tiny_backbone, CountingEstimator(clock, 0.0)) as harness:
        for count in range(1, 6):
            await harness.store.append("p", sums(10, start=10 * count))
            assert (await harness.get()).summary.version == 10 * count


async def test_a_context_that_is_slow_to_fit_is_not_fitted_for_every_outcome(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    estimator = CountingEstimator(clock, 0.05)
    async with context_harness(tmp_path, tiny_backbone, estimator) as harness:
        await harness.store.append("p", sums(200))
        await harness.get()
        for version in range(201, 231):
            policy = (await harness.store.append("p", sums(1, start=version))).policy
            clock.now += 0.05
            # No call waits: a stale context is served.
            assert harness.contexts.ready(policy, "icl") is not None
            await until(lambda: not harness.contexts._fitting)
        # Every 5 x 0.05 s, in the background.
        assert estimator.fits == [200, 206, 212, 218, 224, 230]


async def test_a_call_after_a_pause_waits_for_the_newest_version(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    async with context_harness(tmp_path, tiny_backbone, CountingEstimator(clock, 0.03)) as harness:
        await harness.store.append("p", sums(200))
        await harness.get()
        await harness.store.append("p", sums(10, start=200))
        assert (await harness.get()).summary.version == 200
        clock.now += 0.4
        assert (await harness.get()).summary.version == 210


async def test_a_min_version_is_never_answered_from_an_older_context(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    async with context_harness(tmp_path, tiny_backbone, CountingEstimator(clock, 0.03)) as harness:
        await harness.store.append("p", sums(200))
        await harness.get()
        await harness.store.append("p", sums(10, start=200))
        assert (await harness.get(min_version=210)).summary.version == 210


async def test_a_context_of_few_rows_is_always_the_newest(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    async with context_harness(tmp_path, tiny_backbone, CountingEstimator(clock, 0.03)) as harness:
        for count in range(1, 4):
            await harness.store.append("p", sums(10, start=10 * count))
            assert (await harness.get()).summary.version == 10 * count


async def test_fewer_than_min_rows_are_fitted_by_the_estimator_for_small_contexts(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    estimator = CountingEstimator(clock)
    async with context_harness(tmp_path, tiny_backbone, estimator) as harness:
        await harness.store.append("p", sums(2))
        assert (await harness.get()).estimator is not estimator
        await harness.store.append("p", sums(1, start=2))
        assert (await harness.get()).estimator is estimator


async def test_contexts_as_of_different_steps_are_separate(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    async with context_harness(tmp_path, tiny_backbone, CountingEstimator(clock)) as harness:
        await harness.store.append("p", sums(30))
        assert (await harness.get(step=1)).fitted.rows == 20
        assert (await harness.get()).fitted.rows == 30


async def test_the_cache_is_bounded_by_bytes(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    estimator = CountingEstimator(clock)
    async with context_harness(tmp_path, tiny_backbone, estimator, max_bytes=5000) as harness:
        for number in range(5):
            await harness.store.append(f"p{number}", sums(10))
            await harness.get(f"p{number}")
        assert len(harness.contexts) == 2
        assert harness.contexts.nbytes <= 5000
        await harness.get("p0")
        assert len(estimator.fits) == 6


async def test_a_failed_fit_fails_its_call_and_the_next_call_fits_again(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    class FailingOnce(CountingEstimator):
        def fit(self, window: ContextWindow) -> CountedContext:
            if not self.fits:
                self.fits.append(0)
                raise ArithmeticError("the first fit fails")
            return super().fit(window)

    async with context_harness(tmp_path, tiny_backbone, FailingOnce(clock)) as harness:
        await harness.store.append("p", sums(10))
        with pytest.raises(ArithmeticError):
            await harness.get()
        assert (await harness.get()).fitted.rows == 10


async def test_dropped_contexts_are_fitted_again(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    estimator = CountingEstimator(clock)
    async with context_harness(tmp_path, tiny_backbone, estimator) as harness:
        await harness.store.append("p", sums(3))
        cached = await harness.get()
        assert await harness.get() is cached
        harness.contexts.drop()
        assert (len(harness.contexts), harness.contexts.nbytes) == (0, 0)
        assert await harness.get() is not cached
        assert estimator.fits == [3, 3]


async def test_a_context_too_large_for_the_cache_is_logged_once(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    estimator = CountingEstimator(clock)
    async with context_harness(tmp_path, tiny_backbone, estimator, max_bytes=1500) as harness:
        await harness.store.append("p", sums(3))
        await harness.get()
        await harness.get()
    assert estimator.fits == [3, 3]
    assert caplog.text.count("context_cache_bytes") == 1


async def test_a_stale_context_is_served_while_it_is_fitted_again(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    release = threading.Event()

    class HeldEstimator(CountingEstimator):
        """Takes much longer than its processor time, as on a busy machine."""

        def fit(self, window: ContextWindow) -> CountedContext:
            if self.fits:
                release.wait()
            return super().fit(window)

    async with context_harness(tmp_path, tiny_backbone, HeldEstimator(clock, 0.05)) as harness:
        await harness.store.append("p", sums(200))
        await harness.get()
        await harness.store.append("p", sums(10, start=200))
        # Due to be fitted again, but not yet stale.
        clock.now += 0.3
        assert (await harness.get()).summary.version == 200
        # It would be stale by now if it were not being fitted.
        clock.now += 0.3
        assert (await harness.get()).summary.version == 200
        release.set()
        assert (await harness.get(min_version=210)).summary.version == 210
