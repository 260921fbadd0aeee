"""One prompt that the tokeniser cannot take, and callers that left the queue of the estimators."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.engine.estimators.test_batcher import Adder, ask, encoded, hold, queries
from tests.waiting import settle
from vzero_server.engine.embedding.batch_budget import PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.estimators.batcher import EstimatorBatcher
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.records import prompt_digest
from vzero_server.types import Features

POISON = "poison"


@dataclass
class Picky:
    """An encoder whose tokeniser raises on one prompt, and can be held."""

    release: threading.Event = field(default_factory=threading.Event)

    def tokenize(self, prompts: Sequence[str]) -> list[str]:
        self.release.wait()
        if POISON in prompts:
            raise UnicodeError("a prompt the tokeniser cannot take")
        return list(prompts)

    def embed(self, prompts: Sequence[str]) -> Features:
        return np.array([[len(prompt)] for prompt in prompts], np.float16)


def prompts(*texts: str) -> dict[bytes, str]:
    return {prompt_digest(text): text for text in texts}


async def test_a_prompt_that_cannot_be_tokenised_fails_its_own_call_only() -> None:
    picky, metrics = Picky(), Metrics()
    batcher = EmbeddingBatcher(picky, PaddedBudget(64), max_queued_prompts=1000, metrics=metrics)
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    texts = [f"good {i}" for i in range(100)]
    bad = asyncio.create_task(batcher.embed(prompts(POISON, *texts)))
    await settle()
    # These wait for prompts that came with the bad one, and for some of their own.
    others = [asyncio.create_task(batcher.embed(prompts(text, f"own {text}"))) for text in texts]
    await settle()
    picky.release.set()
    with pytest.raises(UnicodeError):
        await bad
    for text, vectors in zip(texts, await asyncio.gather(*others), strict=True):
        assert vectors[prompt_digest(text)][0] == len(text)
    await held
    assert len(batcher) == 0
    assert len(await batcher.embed(prompts("after"))) == 1
    await batcher.close()


async def test_prompts_of_callers_that_left_are_counted() -> None:
    picky, metrics = Picky(), Metrics()
    batcher = EmbeddingBatcher(picky, PaddedBudget(64), max_queued_prompts=1000, metrics=metrics)
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    late = asyncio.create_task(asyncio.wait_for(batcher.embed(prompts("late", "later")), 0.05))
    with pytest.raises(TimeoutError):
        await late
    picky.release.set()
    await held
    await batcher.embed(prompts("after"))
    found = metrics.registry.get_sample_value
    assert found("vzero_dropped_total", {"queue": "embedding"}) == 2
    assert found("vzero_embedding_batch_prompts_sum") == 2
    await batcher.close()


async def test_questions_of_callers_that_left_are_not_answered() -> None:
    """Cancelled or past their deadline: neither is computed."""
    adder, metrics = Adder(), Metrics()
    heads = EstimatorBatcher(metrics)
    first = await hold(heads, adder)
    late = asyncio.create_task(asyncio.wait_for(ask(heads, encoded(1, adder), queries(5)), 0.05))
    cancelled = asyncio.create_task(ask(heads, encoded(2, adder), queries(6)))
    await settle()
    cancelled.cancel()
    with pytest.raises(TimeoutError):
        await late
    adder.release.set()
    await first
    await ask(heads, encoded(3, adder), queries(2))
    assert adder.batches == [[1], [2]]
    found = metrics.registry.get_sample_value
    assert found("vzero_dropped_total", {"queue": "estimator"}) == 2
    assert found("vzero_estimator_batch_prompts_sum") == 3
    await heads.close()
