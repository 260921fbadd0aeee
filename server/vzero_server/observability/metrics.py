"""Metrics of the server, for Prometheus. Units are base units; no label names a policy."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

# From a cached reply to the first call that loads a model, in s.
_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# Powers of four.
_COUNTS = (1, 4, 16, 64, 256, 1024, 4096)
_TOKENS = (16, 64, 256, 1024, 4096, 16_384, 65_536)
# Versions; most contexts have a lag of 0.
_LAGS = (0, 1, 4, 16, 64, 256, 1024, 4096, 16_384)


class CacheMetrics:
    """Hits and misses of one cache.

    Attributes:
        hit: Adds a number of hits.
        miss: Adds a number of misses.
    """

    def __init__(self, hits: Counter, misses: Counter, name: str) -> None:
        self.hit: Callable[[float], None] = hits.labels(name).inc
        self.miss: Callable[[float], None] = misses.labels(name).inc


class Metrics:
    """The metrics of one server; each server of a process has its own.

    Code that does the work pushes what it measures. A state, such as the length of a queue, is
    read at every scrape by a function that is passed to ``read``.

    Attributes:
        registry: The registry of all metrics.
        request_seconds: Duration of unary calls, by method and code.
        streams: Streams that ended, by method and code.
        rejects: Calls refused before any work, by reason.
        append_seconds: Time from the arrival of a chunk until it is durable.
        commit_seconds: Duration of the writer's transactions.
        accepted: Outcomes stored.
        duplicates: Outcomes ignored because they had been stored before.
        tokenise_seconds: Duration of jobs of the tokeniser.
        embedding_queue_seconds: Time of prompts in the queue of the backbone.
        embedding_dropped: Prompts whose callers left while they were queued.
        embedding_seconds: Duration of batches of the backbone.
        embedding_batch_prompts: Prompts of a batch.
        embedding_batch_tokens: Tokens of a batch.
        estimator_queue_seconds: Time of queries in the queue of the estimators.
        estimator_dropped: Queries whose callers left while they were queued.
        estimator_seconds: Duration of batches of the estimators.
        estimator_batch_prompts: Prompts of a batch.
        context_lag: Versions by which a context is behind its policy.
        features: Feature vectors in memory.
        stored_features: Feature vectors in the store, requested when memory misses.
        windows: Context windows.
        contexts: Fitted contexts.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.request_seconds = self._histogram(
            "request_seconds", "Duration of unary calls.", _SECONDS, "method", "code"
        )
        self.streams = self._counter("streams", "Streams that ended.", "method", "code")
        self.rejects = self._counter("rejects", "Calls refused before any work.", "reason")
        self.append_seconds = self._histogram(
            "append_seconds", "Time from the arrival of a chunk until it is durable.", _SECONDS
        )
        self.commit_seconds = self._histogram(
            "commit_seconds", "Duration of the writer's transactions with the fsync.", _SECONDS
        )
        outcomes = self._counter("outcomes", "Outcomes received.", "result")
        self.accepted = outcomes.labels("accepted")
        self.duplicates = outcomes.labels("duplicate")
        waits = self._histogram("queue_seconds", "Time in a queue.", _SECONDS, "queue")
        self.embedding_queue_seconds = waits.labels("embedding")
        self.estimator_queue_seconds = waits.labels("estimator")
        dropped = self._counter("dropped", "Queued work dropped because its callers left.", "queue")
        self.embedding_dropped = dropped.labels("embedding")
        self.estimator_dropped = dropped.labels("estimator")
        self.tokenise_seconds = self._histogram(
            "tokenise_seconds", "Duration of jobs of the tokeniser.", _SECONDS
        )
        self.embedding_seconds = self._histogram(
            "embedding_seconds", "Duration of batches of the backbone.", _SECONDS
        )
        self.embedding_batch_prompts = self._histogram(
            "embedding_batch_prompts", "Prompts of a batch of the backbone.", _COUNTS
        )
        self.embedding_batch_tokens = self._histogram(
            "embedding_batch_tokens", "Tokens of a batch of the backbone.", _TOKENS
        )
        self.estimator_seconds = self._histogram(
            "estimator_seconds", "Duration of batches of the estimators.", _SECONDS
        )
        self.estimator_batch_prompts = self._histogram(
            "estimator_batch_prompts", "Prompts of a batch of the estimators.", _COUNTS
        )
        self.context_lag = self._histogram(
            "context_lag_versions", "Versions by which a context is behind its policy.", _LAGS
        )
        hits = self._counter("cache_hits", "Entries found in a cache.", "cache")
        misses = self._counter("cache_misses", "Entries not found in a cache.", "cache")
        self.features = CacheMetrics(hits, misses, "features")
        self.stored_features = CacheMetrics(hits, misses, "stored_features")
        self.windows = CacheMetrics(hits, misses, "windows")
        self.contexts = CacheMetrics(hits, misses, "contexts")

    def read(self, name: str, help_: str, function: Callable[[], float]) -> None:
        """Add a gauge that is read at every scrape.

        Args:
            name: Name without the prefix ``vzero_``.
            help_: Description, a sentence.
            function: Returns the value; called from any thread.
        """
        Gauge(f"vzero_{name}", help_, registry=self.registry).set_function(function)

    def _histogram(self, name: str, help_: str, buckets: Any, *labels: str) -> Histogram:  # noqa: ANN401
        return Histogram(f"vzero_{name}", help_, labels, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"vzero_{name}", help_, labels, registry=self.registry)
