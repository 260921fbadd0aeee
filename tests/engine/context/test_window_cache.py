"""Windows in which all rows have embeddings, or only the newest."""

from pathlib import Path

import numpy as np

from tests.engine.context.harness import WindowHarness, window_harness
from tests.outcomes import sums
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.model.backbone import Backbone
from vzero_server.storage.records import prompt_digest

ROWS = 50


async def get_window(parts: WindowHarness, rows_needed: int | None) -> ContextWindow:
    return await parts.windows.get(await parts.store.policy_version("p"), None, rows_needed)


async def stored_embeddings(parts: WindowHarness) -> int:
    """How many of the prompts of a hundred sums are stored with their embedding."""
    digests = [prompt_digest(outcome.prompt) for outcome in sums(100)]
    return len(await parts.store.embeddings(parts.model_key, digests))


async def test_a_new_window_embeds_only_the_rows_needed(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with window_harness(tmp_path, tiny_backbone, rows=ROWS) as parts:
        await parts.store.append("p", sums(60))
        partial = await get_window(parts, 8)
        assert (len(partial), partial.embedded_rows) == (ROWS, 8)
        assert await stored_embeddings(parts) == 8
        whole = await get_window(parts, None)
        assert (len(whole), whole.embedded_rows) == (ROWS, ROWS)
        np.testing.assert_array_equal(whole.embeddings[-8:], partial.embeddings)
        np.testing.assert_array_equal(whole.rewards, partial.rewards)
        assert whole.summary == partial.summary


async def test_an_extended_window_keeps_its_share_of_embedded_rows(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with window_harness(tmp_path, tiny_backbone, rows=ROWS) as parts:
        await parts.store.append("p", sums(30))
        assert (await get_window(parts, 8)).embedded_rows == 8
        await parts.store.append("p", sums(5, start=30))
        partial = await get_window(parts, 8)
        assert (len(partial), partial.embedded_rows) == (35, 8)
        # Once all rows have been needed, further rows are embedded too.
        assert (await get_window(parts, None)).embedded_rows == 35
        await parts.store.append("p", sums(5, start=35))
        whole = await get_window(parts, 8)
        assert (len(whole), whole.embedded_rows) == (40, 40)
        features = await parts.feature_cache.of_prompts([outcome.prompt for outcome in sums(40)])
        np.testing.assert_array_equal(whole.embeddings, features[:, : whole.index.d])


async def test_rows_with_unusable_embeddings_are_replaced_by_older_ones(
    tmp_path: Path, tiny_backbone: Backbone
) -> None:
    async with window_harness(tmp_path, tiny_backbone, rows=ROWS) as parts:
        await parts.store.append("p", sums(20))
        digests = [prompt_digest(outcome.prompt) for outcome in sums(3, start=15)]
        columns = len((await parts.feature_cache.of_prompts(["x"]))[0])
        for digest, value in zip(digests, (np.inf, -np.inf, np.nan), strict=True):
            vector = np.zeros(columns, np.float16)
            vector[-1] = value
            await parts.store.save_embeddings(parts.model_key, {digest: vector})
        window = await get_window(parts, 8)
        assert window.embedded_rows == len(window) == 17
        assert np.isfinite(window.embeddings).all()
