"""An estimator that adds two numbers, and that a test can hold."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tests.waiting import until
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.batcher import EstimatorBatcher
from vzero_server.engine.estimators.window import ContextWindow, Summary
from vzero_server.storage.records import PolicyVersion
from vzero_server.types import Features
from vzero_server.values.beta import Values

# Means are sums divided by this, so that they lie in [0, 1].
SCALE = 10_000


@dataclass(frozen=True)
class NumberContext:
    """A fitted context that is a number."""

    number: int
    nbytes: int = 8
    basis: str = "icl"
    evidence: None = None


@dataclass(eq=False)
class AddingEstimator:
    """Predicts the sum of a prompt's feature and the number of the context, over ``SCALE``.

    A context with a negative number makes the whole batch fail.

    Attributes:
        release: Lets predictions go on.
        started: Batches that were started.
        batches: Prompts of each query, by batch.
        threads: Threads that computed the batches.
        inline_prompts: Most prompts of a query that runs inline.
    """

    rows_needed: int | None = None
    name: str = "icl"
    corrections: Correction = Correction.NONE
    release: threading.Event = field(default_factory=threading.Event)
    started: int = 0
    batches: list[list[int]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    inline_prompts: int = 0

    def window_features(self, features: Features) -> None:
        return None

    def fit(self, window: ContextWindow) -> NumberContext:
        raise NotImplementedError

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        self.started += 1
        self.release.wait()
        self.threads.append(threading.current_thread())
        self.batches.append([len(query) for query in queries])
        if any(query.context.number < 0 for query in queries):
            raise ArithmeticError("the number of a context is negative")
        return [self._values(query) for query in queries]

    def runs_inline(self, query: Query) -> bool:
        return len(query) <= self.inline_prompts

    def _values(self, query: Query) -> Values:
        mean = (query.context.number + query.features[:, 0].astype(np.float64)) / SCALE
        return Values(mean, mean, np.ones(len(mean)), "icl")


def number_context(number: int, estimator: AddingEstimator) -> CachedContext:
    """A cached context of an adding estimator."""
    policy = PolicyVersion("default", "p", 1, 1)
    summary = Summary(1, 1, None, None)
    return CachedContext(policy, NumberContext(number), estimator, summary, 0.0, 0.0)


def count_features(count: int) -> Features:
    """Features of so many prompts: 0, 1, 2 and so on, ``[count, 1]``."""
    return np.arange(count, dtype=np.float16)[:, None]


async def predict(
    batcher: EstimatorBatcher, estimator: AddingEstimator, number: int, prompts: int
) -> Values:
    """Query one context about so many prompts."""
    context = number_context(number, estimator)
    return (await batcher.predict([context], count_features(prompts)))[0]


async def occupy(batcher: EstimatorBatcher, estimator: AddingEstimator) -> "asyncio.Task[Values]":
    """Start a query about one prompt, and wait until the estimator, which is held, computes it."""
    call = asyncio.create_task(predict(batcher, estimator, 0, 1))
    await until(lambda: estimator.started == 1)
    return call
