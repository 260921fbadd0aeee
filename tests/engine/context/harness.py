"""A store, its windows and the parts between them, on the small model."""

from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.embedding.batch_budget import PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.model.backbone import Backbone
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.opening import open_store


@dataclass
class WindowHarness:
    """The parts that contexts are built from.

    Attributes:
        store: An empty log.
        feature_cache: Feature vectors of the small model.
        windows: Windows of at most ``rows`` rows.
        model_key: Key of the small model in the log.
        worker: One thread.
    """

    store: OutcomeStore
    feature_cache: FeatureCache
    windows: WindowCache
    model_key: int
    worker: Executor


@asynccontextmanager
async def window_harness(
    folder: Path, backbone: Backbone, *, rows: int
) -> AsyncIterator[WindowHarness]:
    store = open_store(folder / "data")
    encoder = PromptEncoder(backbone)
    batcher = EmbeddingBatcher(encoder, PaddedBudget(512), max_queued_prompts=1000)
    model_key = await store.model_key(encoder.fingerprint)
    feature_cache = FeatureCache(
        store, batcher, model_key=model_key, columns=encoder.columns, max_bytes=1 << 20
    )
    worker = ThreadPoolExecutor(1)
    windows = WindowCache(
        store,
        feature_cache,
        model_key=model_key,
        embedding_columns=encoder.pooled,
        rows=rows,
        max_bytes=1 << 20,
        worker=worker,
    )
    try:
        yield WindowHarness(store, feature_cache, windows, model_key, worker)
    finally:
        await feature_cache.close()
        await batcher.close()
        worker.shutdown()
        store.close()
