"""The queue in front of the estimators, with one that the test can hold."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import pytest_asyncio

from tests.clock import Clock
from tests.waiting import settle, until
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.estimators import batcher
from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.batcher import EstimatorBatcher
from vzero_server.engine.estimators.window import ContextWindow, Summary
from vzero_server.storage.records import PolicyVersion
from vzero_server.types import Features
from vzero_server.values.beta import Values


@dataclass(frozen=True)
class Fitted:
    """A context that is a number."""

    number: int
    nbytes: int = 8
    basis: str = "icl"
    evidence: None = None


@dataclass(eq=False)
class Adder:
    """Its value of a query is the query plus the context, over 10,000; waits for its release."""

    rows_needed: int | None = None
    name: str = "icl"
    corrections: Correction = Correction.NONE
    release: threading.Event = field(default_factory=threading.Event)
    started: int = 0
    batches: list[list[int]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    most_inline: int = 0

    def window_features(self, features: Features) -> None:
        return None

    def fit(self, window: ContextWindow) -> Fitted:
        raise NotImplementedError

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        self.started += 1
        self.release.wait()
        self.threads.append(threading.current_thread())
        self.batches.append([len(query) for query in queries])
        if any(query.context.number < 0 for query in queries):
            raise ArithmeticError("a context it cannot take")
        return [self.answer(query) for query in queries]

    def runs_inline(self, query: Query) -> bool:
        return len(query) <= self.most_inline

    def answer(self, query: Query) -> Values:
        mean = (query.context.number + query.features[:, 0].astype(np.float64)) / 10_000
        return Values(mean, mean, np.ones(len(mean)), "icl")


async def hold(heads: EstimatorBatcher, adder: Adder) -> "asyncio.Task[Values]":
    """Start a call for one prompt and wait until the estimator, which is held, has it."""
    call = asyncio.create_task(ask(heads, encoded(0, adder), queries(1)))
    await until(lambda: adder.started == 1)
    return call


async def ask(heads: EstimatorBatcher, context: CachedContext, prompts: Features) -> Values:
    return (await heads.predict([context], prompts))[0]


def encoded(context: int, estimator: Adder) -> CachedContext:
    policy = PolicyVersion("default", "p", 1, 1)
    summary = Summary(1, 1, None, None)
    return CachedContext(policy, Fitted(context), estimator, summary, 0.0, 0.0)


def queries(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float16)[:, None]


@pytest_asyncio.fixture
async def heads() -> AsyncIterator[EstimatorBatcher]:
    made = EstimatorBatcher()
    yield made
    await made.close()


async def test_calls_that_gather_share_a_batch(heads: EstimatorBatcher) -> None:
    adder = Adder()
    first = await hold(heads, adder)
    rest = [asyncio.create_task(ask(heads, encoded(i, adder), queries(i))) for i in range(1, 9)]
    await settle()
    adder.release.set()
    await first
    for number, call in enumerate(rest, start=1):
        expected = (number + np.arange(number)) / 10_000
        np.testing.assert_allclose((await call).mean, expected)
    assert adder.batches == [[1], [1, 2, 3, 4, 5, 6, 7, 8]]


async def test_a_quick_question_that_comes_alone_is_answered_on_the_loop(
    heads: EstimatorBatcher,
) -> None:
    adder = Adder(most_inline=2)
    adder.release.set()
    here = threading.current_thread()
    await ask(heads, encoded(0, adder), queries(2))
    assert adder.threads == [here]
    await ask(heads, encoded(0, adder), queries(3))
    calls = (ask(heads, encoded(i, adder), queries(1)) for i in range(2))
    await asyncio.gather(*calls)
    assert adder.batches == [[2], [3], [1, 1]]
    assert here not in adder.threads[1:]
    with pytest.raises(ArithmeticError):
        await ask(heads, encoded(-1, adder), queries(1))


async def test_a_long_call_is_answered_in_order(heads: EstimatorBatcher) -> None:
    adder = Adder()
    adder.release.set()
    values = await ask(heads, encoded(0, adder), queries(2000))
    np.testing.assert_allclose(values.mean, queries(2000)[:, 0].astype(float) / 10_000)
    assert sum(map(sum, adder.batches)) == 2000
    assert max(map(sum, adder.batches)) <= 1024


async def test_a_short_call_overtakes_the_rest_of_a_long_one(
    heads: EstimatorBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both come at the same moment, by the clock of the queue.
    monkeypatch.setattr(batcher, "time", Clock())
    adder = Adder()
    long = asyncio.create_task(ask(heads, encoded(0, adder), queries(2048)))
    await until(lambda: adder.started == 1)
    short = asyncio.create_task(ask(heads, encoded(1, adder), queries(1)))
    await settle()
    adder.release.set()
    await asyncio.gather(long, short)
    # Two pieces of the long call were taken before the short one came.
    assert 1 in adder.batches[1]


async def test_what_nobody_waits_for_is_not_computed(heads: EstimatorBatcher) -> None:
    adder = Adder()
    first = await hold(heads, adder)
    leaving = asyncio.create_task(ask(heads, encoded(0, adder), queries(700)))
    await settle()
    leaving.cancel()
    await settle()
    adder.release.set()
    await first
    await ask(heads, encoded(0, adder), queries(2))
    assert adder.batches == [[1], [2]]
    assert len(heads) == 0


async def test_a_question_that_fails_fails_alone(heads: EstimatorBatcher) -> None:
    adder = Adder()
    first = await hold(heads, adder)
    good = asyncio.create_task(ask(heads, encoded(1, adder), queries(1)))
    bad = asyncio.create_task(ask(heads, encoded(-1, adder), queries(1)))
    await settle()
    adder.release.set()
    await asyncio.gather(first, good)
    with pytest.raises(ArithmeticError):
        await bad
    assert (await ask(heads, encoded(2, adder), queries(1))).mean[0] == 2 / 10_000


async def test_two_estimators_do_not_share_a_batch(heads: EstimatorBatcher) -> None:
    one, other = Adder(), Adder()
    other.release.set()
    first = await hold(heads, one)
    calls = [ask(heads, encoded(i, (one, other)[i % 2]), queries(1)) for i in range(4)]
    waiting = asyncio.gather(*calls)
    await settle()
    one.release.set()
    found = await asyncio.gather(first, waiting)
    assert [values.mean[0] for values in found[1]] == [0, 1e-4, 2e-4, 3e-4]
    assert sum(map(len, other.batches)) == 2
