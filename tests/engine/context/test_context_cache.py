"""When contexts are read again: with a reader whose cost and clock the test sets."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clock import Clock
from tests.outcomes import sums
from tests.waiting import until
from vzero_server.engine.context import context_cache
from vzero_server.engine.context.context_cache import CachedContext, ContextCache
from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.embedding.batch_budget import PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.backbone import Backbone
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.opening import open_store
from vzero_server.types import Features
from vzero_server.values.beta import Values


@dataclass
class Read:
    rows: int
    nbytes: int = 1000
    basis: str = "icl"
    evidence: None = None


@dataclass
class Reader:
    """An estimator that takes its time to read, by the clock, and counts how often it does."""

    clock: Clock
    seconds: float = 0.0
    reads: list[int] = field(default_factory=list)
    rows_needed: int | None = None
    name: str = "icl"
    corrections: Correction = Correction.NONE

    def window_features(self, features: Features) -> None:
        return None

    def fit(self, window: ContextWindow) -> Read:
        self.clock.processor += self.seconds
        self.reads.append(window.version)
        return Read(len(window))

    def runs_inline(self, query: Query) -> bool:
        return False

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        raise NotImplementedError


@dataclass
class Door:
    """What a test uses of the engine."""

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
    """The clock by which contexts grow old."""
    clock = Clock()
    monkeypatch.setattr(context_cache, "time", clock)
    return clock


@asynccontextmanager
async def door(
    folder: Path, backbone: Backbone, reader: Reader, max_bytes: int = 1 << 20
) -> AsyncIterator[Door]:
    store = open_store(folder / "data")
    encoder = PromptEncoder(backbone)
    batcher = EmbeddingBatcher(encoder, PaddedBudget(512), max_queued_prompts=1000)
    key = await store.model_key(encoder.fingerprint)
    features = FeatureCache(
        store, batcher, model_key=key, columns=encoder.columns, max_bytes=1 << 20
    )
    worker = ThreadPoolExecutor(1)
    windows = WindowCache(
        store,
        features,
        model_key=key,
        embedding_columns=encoder.pooled,
        rows=1000,
        max_bytes=1 << 20,
        worker=worker,
    )
    prior = Reader(reader.clock)
    estimators = {"icl": reader}
    try:
        yield Door(
            store,
            ContextCache(
                windows, estimators, prior, min_rows=3, max_bytes=max_bytes, worker=worker
            ),
        )
    finally:
        await features.close()
        await batcher.close()
        worker.shutdown()
        store.close()


async def test_an_unchanged_context_is_read_once(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    reader = Reader(clock, 0.01)
    async with door(tmp_path, tiny_backbone, reader) as it:
        await it.store.append("p", sums(10))
        found = await asyncio.gather(*(it.get() for _ in range(20)))
        await it.get()
        assert reader.reads == [10]
        assert {context.fitted.rows for context in found} == {10}


async def test_one_that_is_cheap_to_read_is_always_the_newest(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    reader = Reader(clock, 0.0)
    async with door(tmp_path, tiny_backbone, reader) as it:
        for count in range(1, 6):
            await it.store.append("p", sums(10, start=10 * count))
            assert (await it.get()).summary.version == 10 * count


async def test_one_that_is_slow_to_read_is_not_read_for_every_outcome(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    reader = Reader(clock, 0.05)
    async with door(tmp_path, tiny_backbone, reader) as it:
        await it.store.append("p", sums(200))
        await it.get()
        for version in range(201, 231):
            policy = (await it.store.append("p", sums(1, start=version))).policy
            clock.now += 0.05
            # Nobody waits: there is a context to answer with.
            assert it.contexts.ready(policy, "icl") is not None
            await until(lambda: not it.contexts._fitting)
        # Every 5 x 0.05 s, in the background.
        assert reader.reads == [200, 206, 212, 218, 224, 230]


async def test_after_a_pause_the_newest_version_is_waited_for(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    async with door(tmp_path, tiny_backbone, Reader(clock, 0.03)) as it:
        await it.store.append("p", sums(200))
        await it.get()
        await it.store.append("p", sums(10, start=200))
        assert (await it.get()).summary.version == 200
        clock.now += 0.4
        assert (await it.get()).summary.version == 210


async def test_who_names_a_version_gets_it_at_once(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    async with door(tmp_path, tiny_backbone, Reader(clock, 0.03)) as it:
        await it.store.append("p", sums(200))
        await it.get()
        await it.store.append("p", sums(10, start=200))
        assert (await it.get(min_version=210)).summary.version == 210


async def test_a_small_one_is_always_the_newest(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    async with door(tmp_path, tiny_backbone, Reader(clock, 0.03)) as it:
        for count in range(1, 4):
            await it.store.append("p", sums(10, start=10 * count))
            assert (await it.get()).summary.version == 10 * count


async def test_few_rows_are_read_by_the_prior(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    reader = Reader(clock)
    async with door(tmp_path, tiny_backbone, reader) as it:
        await it.store.append("p", sums(2))
        assert (await it.get()).estimator is not reader
        await it.store.append("p", sums(1, start=2))
        assert (await it.get()).estimator is reader


async def test_steps_are_kept_apart(tmp_path: Path, tiny_backbone: Backbone, clock: Clock) -> None:
    async with door(tmp_path, tiny_backbone, Reader(clock)) as it:
        await it.store.append("p", sums(30))
        assert (await it.get(step=1)).fitted.rows == 20
        assert (await it.get()).fitted.rows == 30


async def test_memory_is_bounded(tmp_path: Path, tiny_backbone: Backbone, clock: Clock) -> None:
    reader = Reader(clock)
    async with door(tmp_path, tiny_backbone, reader, max_bytes=5000) as it:
        for number in range(5):
            await it.store.append(f"p{number}", sums(10))
            await it.get(f"p{number}")
        assert len(it.contexts) == 2
        assert it.contexts.nbytes <= 5000
        await it.get("p0")
        assert len(reader.reads) == 6


async def test_a_reader_that_fails_fails_the_call_and_no_other(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    class Failing(Reader):
        def fit(self, window: ContextWindow) -> Read:
            if not self.reads:
                self.reads.append(0)
                raise ArithmeticError("not this time")
            return super().fit(window)

    async with door(tmp_path, tiny_backbone, Failing(clock)) as it:
        await it.store.append("p", sums(10))
        with pytest.raises(ArithmeticError):
            await it.get()
        assert (await it.get()).fitted.rows == 10


async def test_dropped_contexts_are_read_again(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    reader = Reader(clock)
    async with door(tmp_path, tiny_backbone, reader) as engine:
        await engine.store.append("p", sums(3))
        kept = await engine.get()
        assert await engine.get() is kept
        engine.contexts.drop()
        assert (len(engine.contexts), engine.contexts.nbytes) == (0, 0)
        assert await engine.get() is not kept
        assert reader.reads == [3, 3]


async def test_a_context_too_large_to_keep_is_told_once(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader(clock)
    async with door(tmp_path, tiny_backbone, reader, max_bytes=1500) as engine:
        await engine.store.append("p", sums(3))
        await engine.get()
        await engine.get()
    assert reader.reads == [3, 3]
    assert caplog.text.count("context_cache_bytes") == 1


async def test_while_it_is_being_read_again_nobody_waits(
    tmp_path: Path, tiny_backbone: Backbone, clock: Clock
) -> None:
    go_on = threading.Event()

    class Halted(Reader):
        """Takes much longer than it computes, as on a busy machine."""

        def fit(self, window: ContextWindow) -> Read:
            if self.reads:
                go_on.wait()
            return super().fit(window)

    async with door(tmp_path, tiny_backbone, Halted(clock, 0.05)) as it:
        await it.store.append("p", sums(200))
        await it.get()
        await it.store.append("p", sums(10, start=200))
        # Due to be read again, but not yet too old.
        clock.now += 0.3
        assert (await it.get()).summary.version == 200
        # By now it would be too old, were it not being read.
        clock.now += 0.3
        assert (await it.get()).summary.version == 200
        go_on.set()
        assert (await it.get(min_version=210)).summary.version == 210
