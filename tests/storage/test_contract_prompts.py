"""Contract of stores: prompts and their embeddings."""

import numpy as np

from tests.outcomes import outcome
from tests.storage.stores import log_of
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import prompt_digest


async def test_embeddings_are_stored_once_per_prompt_and_model(store: OutcomeStore) -> None:
    vectors = {prompt_digest(text): np.full(3, i, np.float16) for i, text in enumerate("xy")}
    first = await store.model_key("first")
    second = await store.model_key("second")
    assert await store.model_key("first") == first != second
    await store.append("a", [outcome("1", "x")])
    # Only embeddings of prompts in the log are stored, and only once.
    assert await store.save_embeddings(first, vectors) == 1
    assert await store.save_embeddings(first, vectors) == 0
    assert await store.save_embeddings(second, vectors) == 1
    stored = await store.embeddings(first, list(vectors))
    assert list(stored) == [prompt_digest("x")]
    np.testing.assert_array_equal(stored[prompt_digest("x")], np.zeros(3))


async def test_a_prompt_may_hold_any_character(store: OutcomeStore) -> None:
    text = "nul \x00, emoji 🙂, newline \n"
    await store.append("a", [outcome("1", text)])
    assert [row.outcome.prompt for row in await log_of(store, "a")] == [text]


async def test_more_digests_than_one_statement_takes(store: OutcomeStore) -> None:
    chunk = [outcome(str(i), f"prompt {i}") for i in range(33_000)]
    model = await store.model_key("model")
    assert (await store.append("a", chunk)).accepted == len(chunk)
    assert (await store.append("a", chunk)).duplicates == len(chunk)
    assert await store.embeddings(model, [prompt_digest(o.prompt) for o in chunk]) == {}
