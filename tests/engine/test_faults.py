"""A prompt that cannot be tokenised, and callers that leave before their values are computed."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.engine.estimators.adding_estimator import AddingEstimator, occupy, predict
from tests.waiting import settle
from vzero_server.engine.embedding.batch_budget import PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.estimators.batcher import EstimatorBatcher
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.records import prompt_digest
from vzero_server.types import Features

POISON = "poison"


@dataclass
class FailingTokeniser:
    """An encoder whose tokeniser raises on one prompt, and can be held."""

    release: threading.Event = field(default_factory=threading.Event)

    def tokenize(self, prompts: Sequence[str]) -> list[str]:
        self.release.wait()
        if POISON in prompts:
            raise UnicodeError("this prompt cannot be tokenised")
        return list(prompts)

    def embed(self, prompts: Sequence[str]) -> Features:
        return np.array([[len(prompt)] for prompt in prompts], np.float16)


def prompts(*texts: str) -> dict[bytes, str]:
    return {prompt_digest(text): text for text in texts}


async def test_a_prompt_that_cannot_be_tokenised_fails_only_its_call() -> None:
    encoder, metrics = FailingTokeniser(), Metrics()
    batcher = EmbeddingBatcher(encoder, PaddedBudget(64), max_queued_prompts=1000, metrics=metrics)
    first = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    texts = [f"good {i}" for i in range(100)]
    bad = asyncio.create_task(batcher.embed(prompts(POISON, *texts)))
    await settle()
    # Each joins a prompt of the failing call, and adds one that no other call contains.
    joined = [asyncio.create_task(batcher.embed(prompts(text, f"new {text}"))) for text in texts]
    await settle()
    encoder.release.set()
    with pytest.raises(UnicodeError):
        await bad
    for text, vectors in zip(texts, await asyncio.gather(*joined), strict=True):
        assert vectors[prompt_digest(text)][0] == len(text)
    await first
    assert len(batcher) == 0
    assert len(await batcher.embed(prompts("after"))) == 1
    await batcher.close()


async def test_prompts_dropped_after_a_deadline_are_counted() -> None:
    encoder, metrics = FailingTokeniser(), Metrics()
    batcher = EmbeddingBatcher(encoder, PaddedBudget(64), max_queued_prompts=1000, metrics=metrics)
    first = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    late = asyncio.create_task(asyncio.wait_for(batcher.embed(prompts("late", "later")), 0.05))
    with pytest.raises(TimeoutError):
        await late
    encoder.release.set()
    await first
    await batcher.embed(prompts("after"))
    sample = metrics.registry.get_sample_value
    assert sample("vzero_dropped_total", {"queue": "embedding"}) == 2
    assert sample("vzero_embedding_batch_prompts_sum") == 2
    await batcher.close()


async def test_cancelled_and_expired_queries_are_dropped_and_counted() -> None:
    estimator, metrics = AddingEstimator(), Metrics()
    batcher = EstimatorBatcher(metrics)
    first = await occupy(batcher, estimator)
    late = asyncio.create_task(asyncio.wait_for(predict(batcher, estimator, 1, 5), 0.05))
    cancelled = asyncio.create_task(predict(batcher, estimator, 2, 6))
    await settle()
    cancelled.cancel()
    with pytest.raises(TimeoutError):
        await late
    estimator.release.set()
    await first
    await predict(batcher, estimator, 3, 2)
    assert estimator.batches == [[1], [2]]
    sample = metrics.registry.get_sample_value
    assert sample("vzero_dropped_total", {"queue": "estimator"}) == 2
    assert sample("vzero_estimator_batch_prompts_sum") == 3
    await batcher.close()
