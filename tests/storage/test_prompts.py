import numpy as np

from tests.outcomes import outcome
from vzero_server.storage.records import prompt_digest
from vzero_server.storage.sql import log, prompts
from vzero_server.storage.sqlite import Database


def test_embeddings_are_stored_once_per_prompt_and_model(database: Database) -> None:
    vectors = {prompt_digest(text): np.full(3, i, np.float32) for i, text in enumerate("xy")}
    with database.writes.begin() as connection:
        first = prompts.model_key(connection, "first")
        second = prompts.model_key(connection, "second")
        assert prompts.model_key(connection, "first") == first != second
        log.append(connection, "a", [outcome("1", "x")], now=1.0)
        # Only of prompts the log names, and not twice.
        assert prompts.write_embeddings(connection, first, vectors) == 1
        assert prompts.write_embeddings(connection, first, vectors) == 0
        assert prompts.write_embeddings(connection, second, vectors) == 1
        found = prompts.read_embeddings(connection, first, list(vectors))
    assert list(found) == [prompt_digest("x")]
    np.testing.assert_array_equal(found[prompt_digest("x")], np.zeros(3))


def test_a_prompt_may_hold_any_character(database: Database) -> None:
    text = "nul \x00, emoji 🙂, newline \n"
    with database.writes.begin() as connection:
        policy = log.append(connection, "a", [outcome("1", text)], now=1.0).policy
        logged = log.read_outcomes(connection, policy, after=0, limit=1)
        assert logged is not None
        assert logged[0].outcome.prompt == text


def test_more_digests_than_one_statement_takes(database: Database) -> None:
    chunk = [outcome(str(i), f"prompt {i}") for i in range(40_000)]
    with database.writes.begin() as connection:
        model = prompts.model_key(connection, "model")
        assert log.append(connection, "a", chunk, now=1.0).accepted == len(chunk)
        assert log.append(connection, "a", chunk, now=1.0).duplicates == len(chunk)
        digests = [prompt_digest(o.prompt) for o in chunk]
        assert prompts.read_embeddings(connection, model, digests) == {}
