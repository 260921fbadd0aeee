from pathlib import Path

import pytest

from tests.outcomes import outcome
from vzero_server.storage.records import prompt_digest
from vzero_server.storage.sql import log
from vzero_server.storage.sql.histories import MOST_ROWS, read_histories, read_histories_by_key
from vzero_server.storage.sql.prompts import keys_of
from vzero_server.storage.sqlite import Database


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "data")


def test_of_each_pair_the_newest_outcomes_are_read_oldest_first(database: Database) -> None:
    count = 4 * MOST_ROWS
    with database.writes.begin() as connection:
        keys = []
        for name, prompts in (("a", 2), ("b", 3)):
            chunk = [outcome(f"{i}", f"p{i % prompts}", step=i) for i in range(count)]
            keys.append(log.append(connection, name, chunk, now=1.0).policy.key)
        digests = [prompt_digest(text) for text in ("p0", "p2", "never seen")]
        found = read_histories(connection, keys, digests, None)
        assert set(found) == {(keys[0], digests[0]), (keys[1], digests[0]), (keys[1], digests[1])}
        for (policy, digest), rows in found.items():
            every = 2 if policy == keys[0] else 3
            first = 2 if digest == digests[1] else 0
            steps = list(range(first, count, every))[-MOST_ROWS:]
            assert [row.step for row in rows] == steps
            assert [row.seq for row in rows] == [step + 1 for step in steps]
        until = read_histories(connection, keys[1:], digests, 10)
        assert [row.step for row in until[keys[1], digests[1]]] == [2, 5, 8]
        by_digest = keys_of(connection, digests)
        by_key = read_histories_by_key(connection, keys[1], list(by_digest.values()), 10)
        assert by_key == {by_digest[digest]: rows for (_, digest), rows in until.items()}


def test_a_prompt_is_not_sought_among_all_outcomes_of_its_policy(database: Database) -> None:
    """Otherwise a policy with many outcomes would be slow to answer for."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with database.writes.begin() as connection:
        chunk = [outcome(f"{i}", f"p{i // 4}") for i in range(8000)]
        key = log.append(connection, "a", chunk, now=1.0).policy.key
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(step, 1)
        found = read_histories(connection, [key], [prompt_digest("p7")], None)
        driver.set_progress_handler(None, 0)
    assert len(found[key, prompt_digest("p7")]) == 4
    assert 0 < steps < 1000
