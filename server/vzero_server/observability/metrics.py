"""What the server counts and measures, for Prometheus; in base units, never by policy."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

# From a cached answer to a model that is loaded for the first time, in s.
_SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
# Powers of four.
_COUNTS = (1, 4, 16, 64, 256, 1024, 4096)
_TOKENS = (16, 64, 256, 1024, 4096, 16_384, 65_536)
# Versions an answer may be behind; most are at 0.
_LAGS = (0, 1, 4, 16, 64, 256, 1024, 4096, 16_384)


class CacheMetrics:
    """How often one cache had what was asked for.

    Attributes:
        hit: Adds to what it had.
        miss: Adds to what it had not.
    """

    def __init__(self, hits: Counter, misses: Counter, name: str) -> None:
        self.hit: Callable[[float], None] = hits.labels(name).inc
        self.miss: Callable[[float], None] = misses.labels(name).inc


class Metrics:
    """The metrics of one server; each server of a process has its own.

    What is measured is pushed by whoever does the work. What describes a state (queues,
    memory) is read when somebody looks, through functions given to ``read``.

    Attributes:
        registry: For the exposition.
        request_seconds: Unary calls by method and code.
        streams: Streams that ended, by method and code.
        rejects: Calls refused before any work, by reason.
        append_seconds: A chunk's way from the stream to the disk.
        prompt_queue_seconds: Prompts waiting for the backbone.
        estimator_queue_seconds: Queries waiting for an estimator.
        tokenise_seconds: Jobs of the tokeniser.
        inference_seconds: Batches of the backbone.
        batch_prompts: Their prompts.
        batch_tokens: Their tokens.
        estimator_seconds: Batches of the estimators.
        estimator_batch_prompts: Their prompts.
        commit_seconds: Transactions of the writer.
        dropped_prompts: Prompts whose callers left before the backbone had them.
        dropped_queries: Queries whose callers left before an estimator had them.
        context_lag: Versions by which an answer is behind the policy's log.
        accepted: Outcomes stored.
        duplicates: Outcomes that had been stored before.
        features_memory: The feature vectors in memory.
        features_store: Those of the log, asked for what memory lacks.
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
            "append_seconds", "From a chunk's arrival until it is durable.", _SECONDS
        )
        waits = self._histogram("queue_seconds", "Time in a queue.", _SECONDS, "queue")
        self.prompt_queue_seconds = waits.labels("prompts")
        self.estimator_queue_seconds = waits.labels("estimator")
        self.tokenise_seconds = self._histogram(
            "tokenise_seconds", "Jobs of the tokeniser.", _SECONDS
        )
        self.inference_seconds = self._histogram(
            "inference_seconds", "Batches of the backbone.", _SECONDS
        )
        self.batch_prompts = self._histogram(
            "batch_prompts", "Prompts of a batch of the backbone.", _COUNTS
        )
        self.batch_tokens = self._histogram(
            "batch_tokens", "Tokens of a batch of the backbone.", _TOKENS
        )
        self.estimator_seconds = self._histogram(
            "estimator_seconds", "Batches of the estimators.", _SECONDS
        )
        self.estimator_batch_prompts = self._histogram(
            "estimator_batch_prompts", "Prompts of a batch of the estimators.", _COUNTS
        )
        self.commit_seconds = self._histogram(
            "commit_seconds", "Transactions of the writer, the fsync included.", _SECONDS
        )
        dropped = self._counter("dropped", "Work dropped since its callers had gone.", "queue")
        self.dropped_prompts = dropped.labels("prompts")
        self.dropped_queries = dropped.labels("queries")
        self.context_lag = self._histogram(
            "context_lag_versions", "Versions by which an answer is behind the log.", _LAGS
        )
        outcomes = self._counter("outcomes", "Outcomes taken in.", "result")
        self.accepted = outcomes.labels("accepted")
        self.duplicates = outcomes.labels("duplicate")
        hits = self._counter("cache_hits", "Entries a cache had.", "cache")
        misses = self._counter("cache_misses", "Entries a cache lacked.", "cache")
        self.features_memory = CacheMetrics(hits, misses, "features_memory")
        self.features_store = CacheMetrics(hits, misses, "features_store")
        self.windows = CacheMetrics(hits, misses, "windows")
        self.contexts = CacheMetrics(hits, misses, "contexts")

    def read(self, name: str, help_: str, function: Callable[[], float]) -> None:
        """Show a state as a gauge.

        Args:
            name: Without the ``vzero_`` that is put before it.
            help_: What it is, in a sentence.
            function: Called when somebody looks, from any thread.
        """
        Gauge(f"vzero_{name}", help_, registry=self.registry).set_function(function)

    def _histogram(self, name: str, help_: str, buckets: Any, *labels: str) -> Histogram:  # noqa: ANN401
        return Histogram(f"vzero_{name}", help_, labels, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(f"vzero_{name}", help_, labels, registry=self.registry)
