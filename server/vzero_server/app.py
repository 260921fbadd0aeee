"""Wires the parts together and runs them until told to stop."""

import asyncio
import gc
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
from vzero_server.engine.adjust.peers import Peers
from vzero_server.engine.context.context_cache import ContextCache, EstimatorName
from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.embedding.batch_budget import BatchBudget, PackedBudget, PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.estimators.base import Estimator
from vzero_server.engine.estimators.batcher import EstimatorBatcher
from vzero_server.engine.estimators.knn import NearestNeighbours
from vzero_server.engine.estimators.oom import (
    DeviceMemory,
    EncoderWithinMemory,
    EstimatorWithinMemory,
)
from vzero_server.engine.estimators.prior import Prior
from vzero_server.engine.predictor import Predictor
from vzero_server.models import Models, device_of, load_models, threads
from vzero_server.observability.admin import AdminServer
from vzero_server.observability.liveness import Worker
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import Traces
from vzero_server.observability.watchdog import Watchdog, leave_now
from vzero_server.settings import Settings
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.opening import open_store

logger = logging.getLogger(__name__)

# Seconds beyond those of draining that a server with a fault gets to end itself.
_FAULT_GRACE = 5.0
# Seconds a model without memory waits for contexts to be dropped.
_ROOM_TIMEOUT = 10.0


# Seconds for which a thread may keep the interpreter while others wait for it. A query gives it
# back for every row it reads, and a call does so some times: by Python's own 5 ms each of these
# waits would take as long as several calls, beside threads that decode and store outcomes.
_SWITCH_INTERVAL = 0.0005

# On a CPU, most tokens of a batch that are padding. A batch more costs what some 60 tokens do,
# which is reading the weights; a GPU has both at once.
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
        async with engine_of(settings, store, metrics) as engine:
            watchdog.watch(*store.monitored, *engine.monitored, *workers.monitored)
            try:
                # What is loaded stays: a collection that went over all of it would halt every call.
                gc.collect()
                gc.freeze()
                info = ServerInfo(engine.estimators, settings.backbone, device_of(settings))
                await server.serve(store, engine, settings.data_dir, info)
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
        workers.close()
        store.close()
        if traces is not None:
            await asyncio.to_thread(traces.close)
    logger.info("stopped")


@asynccontextmanager
async def engine_of(
    settings: Settings, store: OutcomeStore, metrics: Metrics | None = None
) -> AsyncIterator[Predictor]:
    """An engine on a store, its models loaded and warm; it tells ``metrics`` of what it does."""
    metrics = metrics or Metrics()
    # Unbounded, torch and faiss each take all cores and fight over them.
    torch.set_num_threads(threads(settings))
    faiss.omp_set_num_threads(1)
    models = await asyncio.to_thread(load_models, settings)
    encoder = models.encoder
    model_key = await store.model_key(encoder.fingerprint)
    loop = asyncio.get_running_loop()

    def make_room() -> None:
        """For a worker thread: contexts belong to the loop, and are gone when this returns."""

        async def drop() -> None:
            contexts.drop()

        asyncio.run_coroutine_threadsafe(drop(), loop).result(_ROOM_TIMEOUT)

    memory = DeviceMemory(make_room)
    batcher = EmbeddingBatcher(
        EncoderWithinMemory(encoder, memory),
        _batch_budget(settings, models),
        max_queued_prompts=settings.max_queued_prompts,
        max_delay=settings.max_queue_delay,
        metrics=metrics,
    )
    features = FeatureCache(
        store,
        batcher,
        model_key=model_key,
        columns=encoder.columns,
        max_bytes=settings.feature_cache_bytes,
        metrics=metrics,
    )
    worker = Worker("context")
    windows = WindowCache(
        store,
        features,
        model_key=model_key,
        pooled=encoder.pooled,
        rows=settings.window_rows,
        max_bytes=settings.window_cache_bytes,
        worker=worker,
        reader=models.reader,
        metrics=metrics,
    )
    estimators: dict[EstimatorName, Estimator] = {
        EstimatorName.KNN: NearestNeighbours(settings.knn_k)
    }
    if models.icl:
        estimators[EstimatorName.ICL] = models.icl
    if models.tabpfn:
        estimators[EstimatorName.TABPFN] = EstimatorWithinMemory(models.tabpfn, memory)
    contexts = ContextCache(
        windows,
        estimators,
        models.icl or Prior(),
        min_rows=settings.min_context_rows,
        max_bytes=settings.encoded_cache_bytes,
        worker=worker,
        metrics=metrics,
    )
    peers, joint, refresh = None, None, settings.peer_refresh
    if settings.peers:
        peers = Peers(store, most=settings.peers, refresh=refresh, worker=worker)
        joint = FleetCalibrations(
            store, features, pooled=models.encoder.pooled, refresh=refresh, worker=worker
        )
    heads = EstimatorBatcher(metrics)
    loaded = estimators.keys()
    engine = Predictor(store, features, contexts, peers, heads, loaded, metrics, [worker], joint)
    try:
        # The first batch pays for allocations that later ones find made.
        await features.of_prompts(["What is the value of this prompt at state zero?"])
        yield engine
    finally:
        await heads.close()
        await features.close()
        await batcher.close()
        worker.shutdown()


def _batch_budget(settings: Settings, models: Models) -> BatchBudget:
    """The budget of the backbone's batches, which depends on what padding costs."""
    if models.encoder.packs:
        return PackedBudget(settings.max_batch_tokens)
    on_gpu = models.device.startswith("cuda")
    return PaddedBudget(settings.max_batch_tokens, None if on_gpu else _CPU_PADDING)
