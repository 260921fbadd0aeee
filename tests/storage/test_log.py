import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.outcomes import outcome
from vzero_server.storage.records import prompt_digest
from vzero_server.storage.sql import log, prompts, schema
from vzero_server.storage.sqlite import Database

Chunk = tuple[str, list[tuple[int, int]]]

chunks = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=8),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(chunks)
def test_each_outcome_is_stored_once_and_versions_have_no_gaps(sent: list[Chunk]) -> None:
    """Whatever is sent however often: versions count distinct ids, in order of acceptance."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder))
        first: dict[str, dict[str, str]] = {"a": {}, "b": {}}
        for policy_id, pairs in sent:
            chunk = [outcome(f"id-{i}", f"prompt {p}", step=p) for i, p in pairs]
            with database.writes.begin() as connection:
                appended = log.append(connection, policy_id, chunk, now=1.0)
            before = len(first[policy_id])
            for o in chunk:
                first[policy_id].setdefault(o.outcome_id, o.prompt)
            assert appended.policy.version == len(first[policy_id])
            assert appended.accepted == len(first[policy_id]) - before
            assert appended.accepted + appended.duplicates == len(chunk)
        with database.reads.begin() as connection:
            for policy_id, expected in first.items():
                record = log.get_policy(connection, policy_id)
                if not expected:
                    assert record is None
                    continue
                assert record is not None
                columns = schema.outcome.c
                rows = connection.execute(
                    select(columns.seq, columns.outcome_id)
                    .where(columns.policy_key == record.key)
                    .order_by(columns.seq)
                ).all()
                assert [seq for seq, _ in rows] == list(range(1, record.version + 1))
                assert [outcome_id for _, outcome_id in rows] == list(expected)
                logged = log.read_outcomes(connection, record.at_version, after=0, limit=1000)
                assert logged is not None
                stored = [row.outcome for row in logged]
                assert {o.outcome_id: o.prompt for o in stored} == expected
                assert record.newest_step == max(o.step or 0 for o in stored)
            distinct = {text for texts in first.values() for text in texts.values()}
            count = connection.scalar(select(func.count()).select_from(schema.prompt))
            assert count == len(distinct)
        database.close()


def test_the_tail_is_the_newest_rows_oldest_first(database: Database) -> None:
    with database.writes.begin() as connection:
        model = prompts.model_key(connection, "model")
        chunk = [outcome(f"{i}", f"p{i}", step=i if i % 2 else None) for i in range(10)]
        key = log.append(connection, "a", chunk, now=1.0).policy.key
        everything = log.newest_rows(
            connection, key, model, after=0, limit=4, depth=4, as_of_step=None
        )
        assert everything is not None
        assert everything[0] == len(chunk)
        assert [row.seq for row in everything[1]] == [7, 8, 9, 10]
        as_of = log.newest_rows(connection, key, model, after=0, limit=4, depth=4, as_of_step=5)
        assert as_of is not None
        assert [row.step for row in as_of[1]] == [1, 3, 5]
        assert (
            log.newest_rows(connection, 99, model, after=0, limit=4, depth=4, as_of_step=None)
            is None
        )


def test_embeddings_come_with_the_newest_rows_alone(database: Database) -> None:
    with database.writes.begin() as connection:
        model = prompts.model_key(connection, "model")
        chunk = [outcome(f"{i}", f"p{i}", step=i) for i in range(10)]
        key = log.append(connection, "a", chunk, now=1.0).policy.key
        vectors = {prompt_digest(f"p{i}"): np.full(2, i, np.float16) for i in range(10)}
        prompts.write_embeddings(connection, model, vectors)
        for as_of_step, newest in ((None, 10), (6, 7)):
            for depth in (0, 2, 5, 9):
                found = log.newest_rows(
                    connection, key, model, after=0, limit=5, depth=depth, as_of_step=as_of_step
                )
                assert found is not None
                rows = found[1]
                assert [row.seq for row in rows] == list(range(newest - 4, newest + 1))
                given = [row.vector is not None for row in rows]
                assert given == [place >= 5 - depth for place in range(5)]


def test_deleting_a_policy_keeps_the_prompts_of_others(database: Database) -> None:
    with database.writes.begin() as connection:
        log.append(connection, "a", [outcome("1", "shared"), outcome("2", "own")], now=1.0)
        log.append(connection, "b", [outcome("1", "shared")], now=1.0)
        assert log.delete_policy(connection, "a") == 2
        assert log.delete_policy(connection, "a") is None
        texts = connection.scalars(select(schema.prompt.c.text)).all()
        assert texts == [b"shared"]
        appended = log.append(connection, "a", [outcome("1", "new")], now=1.0)
        assert (appended.policy.version, appended.accepted) == (1, 1)
        record = log.get_policy(connection, "a")
        assert record is not None
        # The key of a deleted policy is not used again.
        assert record.key == 3


def test_policies_are_listed_in_order_of_name(database: Database) -> None:
    with database.writes.begin() as connection:
        for name in ("c", "a", "b"):
            log.append(
                connection, name, [outcome("1", reward=0.25), outcome("2", reward=0.75)], 5.0
            )
        listed = log.list_policies(connection, after="a", limit=10)
    assert [(record.policy_id, record.mean_reward) for record in listed] == [("b", 0.5), ("c", 0.5)]
