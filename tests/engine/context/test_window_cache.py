"""Windows of which the prompts of the newest rows are known, or of all."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.outcomes import sums
from vzero_server.engine.context.window_cache import WindowCache
from vzero_server.engine.embedding.batch_budget import PaddedBudget
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.embedding.feature_cache import FeatureCache
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.backbone import Backbone
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.opening import open_store
from vzero_server.storage.records import prompt_digest

ROWS = 50


@dataclass
class Door:
    """What a test uses of the engine."""

    store: OutcomeStore
    features: FeatureCache
    windows: WindowCache
    model: int

    async def get(self, rows_needed: int | None) -> ContextWindow:
        return await self.windows.get(await self.store.policy_version("p"), None, rows_needed)

    async def embedded(self) -> int:
        """How many of the prompts of a hundred sums are stored with their embedding."""
        digests = [prompt_digest(one.prompt) for one in sums(100)]
        return len(await self.store.embeddings(self.model, digests))


@asynccontextmanager
async def door(folder: Path, backbone: Backbone) -> AsyncIterator[Door]:
    store = open_store(folder / "data")
    encoder = PromptEncoder(backbone)
    batcher = EmbeddingBatcher(encoder, PaddedBudget(512), max_queued_prompts=1000)
    model = await store.model_key(encoder.fingerprint)
    features = FeatureCache(
        store, batcher, model_key=model, columns=encoder.columns, max_bytes=1 << 20
    )
    worker = ThreadPoolExecutor(1)
    windows = WindowCache(
        store,
        features,
        model_key=model,
        embedding_columns=encoder.pooled,
        rows=ROWS,
        max_bytes=1 << 20,
        worker=worker,
    )
    try:
        yield Door(store, features, windows, model)
    finally:
        await features.close()
        await batcher.close()
        worker.shutdown()
        store.close()


async def test_a_first_answer_needs_the_prompts_of_the_newest_rows(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with door(tmp_path, tiny_backbone) as it:
        await it.store.append("p", sums(60))
        shallow = await it.get(8)
        assert (len(shallow), shallow.embedded_rows) == (ROWS, 8)
        assert await it.embedded() == 8
        whole = await it.get(None)
        assert (len(whole), whole.embedded_rows) == (ROWS, ROWS)
        np.testing.assert_array_equal(whole.embeddings[-8:], shallow.embeddings)
        np.testing.assert_array_equal(whole.rewards, shallow.rewards)
        assert whole.summary == shallow.summary


async def test_a_window_grows_as_deep_as_it_is(tmp_path: Path, tiny_backbone: Backbone) -> None:
    async with door(tmp_path, tiny_backbone) as it:
        await it.store.append("p", sums(30))
        assert (await it.get(8)).embedded_rows == 8
        await it.store.append("p", sums(5, start=30))
        shallow = await it.get(8)
        assert (len(shallow), shallow.embedded_rows) == (35, 8)
        # Whoever needs all of it is asked again, and so is whoever does not.
        assert (await it.get(None)).embedded_rows == 35
        await it.store.append("p", sums(5, start=35))
        deep = await it.get(8)
        assert (len(deep), deep.embedded_rows) == (40, 40)
        expected = await it.features.of_prompts([one.prompt for one in sums(40)])
        np.testing.assert_array_equal(deep.embeddings, expected[:, : deep.index.d])


async def test_rows_that_cannot_be_used_make_room_for_older_ones(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with door(tmp_path, tiny_backbone) as it:
        await it.store.append("p", sums(20))
        broken = {prompt_digest(one.prompt): None for one in sums(3, start=15)}
        columns = len((await it.features.of_prompts(["x"]))[0])
        for value in (np.inf, -np.inf, np.nan):
            vector = np.zeros(columns, np.float16)
            vector[-1] = value
            await it.store.save_embeddings(it.model, {broken.popitem()[0]: vector})
        window = await it.get(8)
        assert window.embedded_rows == len(window) == 17
        assert np.isfinite(window.embeddings).all()
