"""Wires the parts together and runs them until told to stop."""

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import faiss
import torch

from vzero_server.api.server import ApiServer
from vzero_server.config import Settings
from vzero_server.contexts.database import Database
from vzero_server.contexts.store import ContextStore
from vzero_server.engine.batcher import Batcher
from vzero_server.engine.encoded import EncodedContexts, EstimatorName
from vzero_server.engine.engine import Engine
from vzero_server.engine.estimators.estimator import Estimator
from vzero_server.engine.estimators.nearest import NearestNeighbours
from vzero_server.engine.estimators.prior import Prior
from vzero_server.engine.features import FeatureCache
from vzero_server.engine.heads import HeadBatcher
from vzero_server.engine.peers import Peers
from vzero_server.engine.windows import WindowCache
from vzero_server.models import load_models

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a server says when it is serving: its address and how long it took, in seconds."""

    address: str
    seconds: float


async def run(settings: Settings, announce: Callable[[Ready], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        settings: All settings.
        announce: Called once calls are let in.

    Raises:
        OSError: The address cannot be listened on.
        DataFolderError: The data folder cannot be used.
        BackboneError: The backbone cannot be loaded.
        CheckpointError: The head cannot be used.
    """
    started = time.perf_counter()
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    store = ContextStore(Database(settings.data_dir, max_bytes=settings.max_database_bytes))
    server = ApiServer(settings)
    try:
        port = await server.listen()
        async with engine_of(settings, store) as engine:
            try:
                # What is loaded stays: a collection that went over all of it would halt every call.
                gc.collect()
                gc.freeze()
                await server.serve(store, engine, settings.data_dir)
                announce(Ready(f"{settings.host}:{port}", time.perf_counter() - started))
                await stop.wait()
                log.info("draining")
            finally:
                await server.drain()
    finally:
        # Again, for a server that did not get as far as serving.
        await server.drain()
        store.close()
    log.info("stopped")


@asynccontextmanager
async def engine_of(settings: Settings, store: ContextStore) -> AsyncIterator[Engine]:
    """An engine on a store, its models loaded and warm."""
    # Unbounded, torch and faiss each take all cores and fight over them.
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    faiss.omp_set_num_threads(1)
    models = await asyncio.to_thread(load_models, settings)
    encoder = models.encoder
    model_key = await store.model_key(encoder.fingerprint)
    batcher = Batcher(
        encoder,
        max_batch_tokens=settings.max_batch_tokens,
        max_queued_prompts=settings.max_queued_prompts,
    )
    features = FeatureCache(
        store,
        batcher,
        model_key=model_key,
        columns=encoder.columns,
        max_bytes=settings.feature_cache_bytes,
    )
    worker = ThreadPoolExecutor(1, thread_name_prefix="vzero-context")
    windows = WindowCache(
        store,
        features,
        model_key=model_key,
        pooled=encoder.pooled,
        rows=settings.window_rows,
        max_bytes=settings.window_cache_bytes,
        worker=worker,
        reader=models.icl.rows if models.icl else None,
    )
    estimators: dict[EstimatorName, Estimator] = {
        EstimatorName.KNN: NearestNeighbours(settings.knn_k)
    }
    if models.icl:
        estimators[EstimatorName.ICL] = models.icl
    contexts = EncodedContexts(
        windows,
        estimators,
        models.icl or Prior(),
        min_rows=settings.min_context_rows,
        max_bytes=settings.encoded_cache_bytes,
        worker=worker,
    )
    peers = None
    if settings.peers:
        peers = Peers(store, most=settings.peers, refresh=settings.peer_refresh, worker=worker)
    heads = HeadBatcher()
    engine = Engine(store, features, contexts, peers, heads, estimators.keys())
    try:
        # The first batch pays for allocations that later ones find made.
        await features.of_prompts(["What is the value of this prompt at state zero?"])
        yield engine
    finally:
        await heads.close()
        await features.close()
        await batcher.close()
        worker.shutdown()
