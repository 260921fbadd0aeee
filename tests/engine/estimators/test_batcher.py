"""The queue in front of the estimators, with an estimator that the test can hold."""

import asyncio
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from tests.clock import Clock
from tests.engine.estimators.adding_estimator import (
    SCALE,
    AddingEstimator,
    count_features,
    occupy,
    predict,
)
from tests.waiting import settle, until
from vzero_server.engine.estimators import batcher as batcher_module
from vzero_server.engine.estimators.batcher import EstimatorBatcher


@pytest_asyncio.fixture
async def batcher() -> AsyncIterator[EstimatorBatcher]:
    batcher = EstimatorBatcher()
    yield batcher
    await batcher.close()


async def test_queries_that_queue_together_share_a_batch(batcher: EstimatorBatcher) -> None:
    estimator = AddingEstimator()
    running = await occupy(batcher, estimator)
    queued = [asyncio.create_task(predict(batcher, estimator, i, i)) for i in range(1, 9)]
    await settle()
    estimator.release.set()
    await running
    for number, call in enumerate(queued, start=1):
        expected = (number + np.arange(number)) / SCALE
        np.testing.assert_allclose((await call).mean, expected)
    assert estimator.batches == [[1], [1, 2, 3, 4, 5, 6, 7, 8]]


async def test_a_cheap_query_that_arrives_alone_runs_inline(batcher: EstimatorBatcher) -> None:
    estimator = AddingEstimator(inline_prompts=2)
    estimator.release.set()
    loop_thread = threading.current_thread()
    await predict(batcher, estimator, 0, 2)
    assert estimator.threads == [loop_thread]
    await predict(batcher, estimator, 0, 3)
    await asyncio.gather(*(predict(batcher, estimator, i, 1) for i in range(2)))
    assert estimator.batches == [[2], [3], [1, 1]]
    assert loop_thread not in estimator.threads[1:]
    with pytest.raises(ArithmeticError):
        await predict(batcher, estimator, -1, 1)


async def test_values_of_a_long_call_keep_the_order_of_its_prompts(
    batcher: EstimatorBatcher,
) -> None:
    estimator = AddingEstimator()
    estimator.release.set()
    values = await predict(batcher, estimator, 0, 2000)
    np.testing.assert_allclose(values.mean, count_features(2000)[:, 0].astype(float) / SCALE)
    assert sum(map(sum, estimator.batches)) == 2000
    assert max(map(sum, estimator.batches)) <= 1024


async def test_a_short_call_overtakes_the_rest_of_a_long_one(
    batcher: EstimatorBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both calls arrive at the same time, by the clock of the queue.
    monkeypatch.setattr(batcher_module, "time", Clock())
    estimator = AddingEstimator()
    long = asyncio.create_task(predict(batcher, estimator, 0, 2048))
    await until(lambda: estimator.started == 1)
    short = asyncio.create_task(predict(batcher, estimator, 1, 1))
    await settle()
    estimator.release.set()
    await asyncio.gather(long, short)
    # Two pieces of the long call were taken before the short one arrived.
    assert 1 in estimator.batches[1]


async def test_queries_of_a_cancelled_call_are_not_computed(batcher: EstimatorBatcher) -> None:
    estimator = AddingEstimator()
    running = await occupy(batcher, estimator)
    cancelled = asyncio.create_task(predict(batcher, estimator, 0, 700))
    await settle()
    cancelled.cancel()
    await settle()
    estimator.release.set()
    await running
    await predict(batcher, estimator, 0, 2)
    assert estimator.batches == [[1], [2]]
    assert len(batcher) == 0


async def test_a_failing_query_does_not_fail_others_of_its_batch(
    batcher: EstimatorBatcher,
) -> None:
    estimator = AddingEstimator()
    running = await occupy(batcher, estimator)
    good = asyncio.create_task(predict(batcher, estimator, 1, 1))
    bad = asyncio.create_task(predict(batcher, estimator, -1, 1))
    await settle()
    estimator.release.set()
    await asyncio.gather(running, good)
    with pytest.raises(ArithmeticError):
        await bad
    assert (await predict(batcher, estimator, 2, 1)).mean[0] == 2 / SCALE


async def test_a_batch_holds_queries_of_one_estimator(batcher: EstimatorBatcher) -> None:
    held, released = AddingEstimator(), AddingEstimator()
    released.release.set()
    running = await occupy(batcher, held)
    calls = [predict(batcher, (held, released)[i % 2], i, 1) for i in range(4)]
    queued = asyncio.gather(*calls)
    await settle()
    held.release.set()
    _, values = await asyncio.gather(running, queued)
    assert [float(call_values.mean[0]) for call_values in values] == [0, 1e-4, 2e-4, 3e-4]
    assert sum(map(len, released.batches)) == 2
