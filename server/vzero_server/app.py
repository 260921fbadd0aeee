"""Wires the parts together and runs them until told to stop."""

import asyncio
import gc
import importlib
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import faiss
import torch

from vzero_server.api.server import ApiServer
from vzero_server.api.server_info import ServerInfo
from vzero_server.api.workers import EdgeWorkers
from vzero_server.engine.adjust.fleet import FleetCalibrations
from vzero_server.engine.adjust.history import HistoryCache
from vzero_server.engine.adjust.peers import Peers
from vzero_server.engine.context.context_cache import ContextCache
from vzero_server.engine.context.relabelled import RelabelledContexts
from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.embedding.batch_budget import BatchBudget, PackedBudget, PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.embedding.guarded import GuardedEncoder
from vzero_server.engine.estimators.batcher import EstimatorBatcher
from vzero_server.engine.estimators.registry import LoadContext, LoadedEstimators
from vzero_server.engine.predictor import Parts, Predictor
from vzero_server.model.device import resolve_device
from vzero_server.model.loading import (
    Models,
    default_thread_count,
    load_compact_models,
)
from vzero_server.model.oom import OomGuard
from vzero_server.observability.admin import AdminServer
from vzero_server.observability.liveness import Worker
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import Traces
from vzero_server.observability.watchdog import Watchdog, leave_now
from vzero_server.paper.loading import load_paper_models
from vzero_server.settings import Settings
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.opening import open_store

logger = logging.getLogger(__name__)

# Seconds beyond those of draining that a server with a fault gets to end itself.
_FAULT_GRACE = 5.0
# Seconds a model that is out of memory waits for contexts to be dropped.
_DROP_TIMEOUT = 10.0
# Threads for what takes too long for the event loop, beside the fitting of contexts.
_STATISTICS_THREADS = 2
# Relabelled contexts get this part of the memory of contexts.
_RELABELLED_PART = 8

ESTIMATOR_MODULES = (
    "vzero_server.engine.estimators.icl",
    "vzero_server.engine.estimators.knn",
    "vzero_server.paper.estimator",
)
"""Modules that register the estimators that come with the server, when they are imported."""

# Seconds for which a thread may hold the interpreter while others wait for it. A database query
# gives it back for every row, and a call does so several times: with Python's default of 5 ms,
# each of these waits would take as long as several calls, beside threads that store outcomes.
_SWITCH_INTERVAL = 0.0005

# On a CPU, most tokens of a batch that are padding. Another batch costs about as much as 60 tokens:
# the weights are read again. A GPU computes both at once.
_CPU_PADDING = 64


@dataclass(frozen=True, slots=True)
class Ready:
    """What a server says when it is serving.

    Attributes:
        address: ``host:port`` for calls.
        seconds: How long the start took.
        admin_address: ``host:port`` of metrics and probes; None without them.
    """

    address: str
    seconds: float
    admin_address: str | None = None


async def run(settings: Settings, announce: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    A part that has died or hangs ends the process after draining, with
    ``watchdog.FAULT_EXIT_CODE``.

    Args:
        settings: All settings.
        announce: Called once calls are let in.

    Raises:
        OSError: The address cannot be listened on.
        DataFolderError: The data folder cannot be used.
        BackboneError: The backbone cannot be loaded.
        CheckpointError: The head cannot be used.
        WeightsError: Weights are missing or altered.
    """
    started = time.perf_counter()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    metrics = Metrics()
    store = open_store(settings.data_dir, max_bytes=settings.max_database_bytes, metrics=metrics)
    traces = Traces.to(settings.trace_endpoint) if settings.trace_endpoint else None
    workers = EdgeWorkers()
    server = ApiServer(settings, metrics, workers, traces)
    watchdog = Watchdog(
        stop.set,
        hang_timeout=settings.hang_timeout,
        grace=settings.drain_timeout + _FAULT_GRACE,
    )
    admin = AdminServer(
        metrics.registry,
        lambda: watchdog.fault or server.not_serving_because,
        workers.replies,
    )
    try:
        port = await server.listen()
        admin_address = None
        if settings.admin_port is not None:
            admin_port = await admin.listen(settings.admin_host, settings.admin_port)
            admin_address = f"{settings.admin_host}:{admin_port}"
        async with running_predictor(settings, store, metrics) as predictor:
            watchdog.watch(*store.monitored, *predictor.monitored, *workers.monitored)
            try:
                # What is loaded stays: a collection that went over all of it would halt every call.
                gc.collect()
                gc.freeze()
                info = ServerInfo(
                    predictor.estimators, settings.backbone, resolve_device(settings.device)
                )
                await server.serve(store, predictor, settings.data_dir, info)
                seconds = time.perf_counter() - started
                announce(Ready(f"{settings.host}:{port}", seconds, admin_address))
                await stop.wait()
                logger.info("draining")
            finally:
                await server.drain()
                if watchdog.fault is not None:
                    leave_now()
                watchdog.close()
    finally:
        # Again, for a server that did not get as far as serving.
        watchdog.close()
        await server.drain()
        await admin.close()
        if traces is not None:
            await workers.replies.run(traces.close)
        workers.close()
        store.close()
    logger.info("stopped")


def load_models(settings: Settings) -> Models:
    """Load the encoder of prompts, and the head that comes with it.

    Raises:
        BackboneError: The backbone cannot be loaded.
        CheckpointError: The head or the adapter cannot be used.
        WeightsError: Weights are missing or altered.
    """
    if settings.adapter != "none":
        return load_paper_models(settings)
    return load_compact_models(
        backbone=settings.backbone,
        head=settings.head,
        device=resolve_device(settings.device),
        dtype=settings.dtype,
        runtime=settings.runtime,
    )


def load_estimators(settings: Settings, models: Models, guard: OomGuard) -> LoadedEstimators:
    """Load every registered estimator that the settings have weights for.

    Raises:
        CheckpointError: A head cannot be used.
        WeightsError: Weights are missing or altered.
    """
    further = [module.strip() for module in (settings.estimator_modules or "").split(",")]
    for module in (*ESTIMATOR_MODULES, *filter(None, further)):
        importlib.import_module(module)
    return LoadedEstimators.load(LoadContext(settings, models, guard))


@asynccontextmanager
async def running_predictor(
    settings: Settings, store: OutcomeStore, metrics: Metrics | None = None
) -> AsyncIterator[Predictor]:
    """Wire a predictor on a store, its models loaded and warm, and close it in the end.

    Args:
        settings: All settings.
        store: The log.
        metrics: Measures what it does.

    Raises:
        BackboneError: The backbone cannot be loaded.
        CheckpointError: A head or the adapter cannot be used.
        WeightsError: Weights are missing or altered.
    """
    metrics = metrics or Metrics()
    # By default torch and faiss each take all cores, and compete for them.
    torch.set_num_threads(settings.threads or default_thread_count())
    faiss.omp_set_num_threads(1)
    loop = asyncio.get_running_loop()
    worker, statistics = Worker("context"), Worker("statistics", _STATISTICS_THREADS)

    def drop_contexts() -> None:
        """Called on a worker thread: contexts belong to the loop, and are gone on return."""

        async def drop() -> None:
            contexts.drop()
            relabelled.drop()

        asyncio.run_coroutine_threadsafe(drop(), loop).result(_DROP_TIMEOUT)

    guard = OomGuard(drop_contexts)

    def load() -> tuple[Models, LoadedEstimators]:
        loaded = load_models(settings)
        return loaded, load_estimators(settings, loaded, guard)

    models, estimators = await loop.run_in_executor(worker, load)
    encoder = models.encoder
    model_key = await store.model_key(encoder.fingerprint)
    embedding_batcher = EmbeddingBatcher(
        GuardedEncoder(encoder, guard),
        _batch_budget(settings, models),
        max_queued_prompts=settings.max_queued_prompts,
        max_delay=settings.max_queue_delay,
        metrics=metrics,
    )
    feature_cache = FeatureCache(
        store,
        embedding_batcher,
        model_key=model_key,
        columns=encoder.columns,
        max_bytes=settings.feature_cache_bytes,
        metrics=metrics,
    )
    windows = WindowCache(
        store,
        feature_cache,
        model_key=model_key,
        embedding_columns=encoder.pooled,
        rows=settings.window_rows,
        max_bytes=settings.window_cache_bytes,
        worker=worker,
        window_features={name: one.window_features for name, one in estimators.items()},
        metrics=metrics,
    )
    contexts = ContextCache(
        windows,
        estimators,
        estimators.small,
        min_rows=settings.min_context_rows,
        max_bytes=settings.context_cache_bytes,
        worker=worker,
        metrics=metrics,
    )
    relabelled = RelabelledContexts(
        windows,
        estimators,
        estimators.small,
        min_rows=settings.min_context_rows,
        max_bytes=settings.context_cache_bytes // _RELABELLED_PART,
        worker=worker,
    )
    peers, fleet, refresh = None, None, settings.peer_refresh
    if settings.peers:
        peers = Peers(store, limit=settings.peers, refresh=refresh, worker=worker)
        fleet = FleetCalibrations(
            store,
            feature_cache,
            embedding_columns=encoder.pooled,
            refresh=refresh,
            worker=statistics,
        )
    history = HistoryCache(store, worker=statistics)
    batcher = EstimatorBatcher(metrics)
    parts = Parts(
        store, feature_cache, contexts, relabelled, estimators, batcher, history, peers, fleet
    )
    try:
        # The first batch pays for allocations that later ones reuse.
        await feature_cache.of_prompts(["What is the value of this prompt at state zero?"])
        yield Predictor(parts, metrics, [worker, statistics])
    finally:
        await batcher.close()
        await feature_cache.close()
        await embedding_batcher.close()
        worker.shutdown()
        statistics.shutdown()


def _batch_budget(settings: Settings, models: Models) -> BatchBudget:
    """The budget of a batch of the backbone, by what padding costs."""
    if models.encoder.packs:
        return PackedBudget(settings.max_batch_tokens)
    on_gpu = models.device.startswith("cuda")
    return PaddedBudget(settings.max_batch_tokens, None if on_gpu else _CPU_PADDING)
