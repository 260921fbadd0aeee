"""Contract of stores: outcomes."""

import asyncio
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.outcomes import outcome, sums
from tests.storage.stores import STORES, log_of, opened, prompt_keys
from vzero_server.errors import UnknownPolicyError
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Price, PriceUnit, prompt_digest

# Chunks of (outcome id, prompt) for a policy; None updates the policy instead.
Chunk = tuple[str, list[tuple[int, int]] | None]

chunks = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.none()
        | st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), min_size=1, max_size=8),
    ),
    max_size=8,
)


@pytest.mark.parametrize("engine", STORES)
@settings(max_examples=40)
@given(chunks)
def test_each_outcome_is_stored_once_and_versions_count_changes(
    engine: str, sent: list[Chunk]
) -> None:
    async def check(folder: str) -> None:
        async with opened(engine, Path(folder)) as store:
            await _check_chunks(store, sent)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(folder))


async def _check_chunks(store: OutcomeStore, sent: list[Chunk]) -> None:
    prompts: dict[str, dict[str, str]] = {"a": {}, "b": {}}
    versions = {"a": 0, "b": 0}
    seqs: dict[str, list[int]] = {"a": [], "b": []}
    for policy_id, pairs in sent:
        if pairs is None:
            versions[policy_id] += 1
            record = await store.update_policy(policy_id, {"labels": {}})
            assert (record.version, record.outcomes) == (
                versions[policy_id],
                len(prompts[policy_id]),
            )
            continue
        chunk = [outcome(f"id-{i}", f"prompt {p}", step=p) for i, p in pairs]
        appended = await store.append(policy_id, chunk)
        before = len(prompts[policy_id])
        for o in chunk:
            prompts[policy_id].setdefault(o.outcome_id, o.prompt)
        assert appended.accepted == len(prompts[policy_id]) - before
        assert appended.accepted + appended.duplicates == len(chunk)
        end = versions[policy_id] + appended.accepted
        seqs[policy_id] += range(versions[policy_id] + 1, end + 1)
        versions[policy_id] = end
        assert appended.policy.version == end
    for policy_id, expected in prompts.items():
        if not versions[policy_id]:
            with pytest.raises(UnknownPolicyError):
                await store.policy(policy_id)
            continue
        record = await store.policy(policy_id)
        assert (record.version, record.outcomes) == (versions[policy_id], len(expected))
        assert (await store.policy_version(policy_id)).version == record.version
        logged = await log_of(store, policy_id, page=3)
        assert [row.seq for row in logged] == seqs[policy_id]
        assert [row.outcome.outcome_id for row in logged] == list(expected)
        assert {row.outcome.outcome_id: row.outcome.prompt for row in logged} == expected
        assert record.newest_step == max((row.outcome.step or 0 for row in logged), default=None)
    distinct = {text for texts in prompts.values() for text in texts.values()}
    texts = await store.prompt_texts(range(1, 200))
    assert sorted(texts.values()) == sorted(distinct)


async def test_concurrent_appends_to_one_policy_leave_no_gap(store: OutcomeStore) -> None:
    chunks = [sums(5, start=5 * i) for i in range(40)]
    appended = await asyncio.gather(*(store.append("a", chunk) for chunk in chunks))
    assert sorted(a.policy.version for a in appended) == list(range(5, 201, 5))
    assert (await store.policy_version("a")).version == 200


async def test_the_newest_rows_are_returned_oldest_first(store: OutcomeStore) -> None:
    model = await store.model_key("model")
    chunk = [outcome(f"{i}", f"p{i}", step=i if i % 2 else None) for i in range(10)]
    policy = (await store.append("a", chunk)).policy
    await store.save_embeddings(model, {prompt_digest("p9"): np.ones(2, np.float16)})
    version, rows = await store.newest_rows(
        policy, model, after=0, limit=4, embedded_rows=4, as_of_step=None
    )
    assert version == 10
    assert [row.seq for row in rows] == [7, 8, 9, 10]
    assert [row.vector is None for row in rows] == [True, True, True, False]
    _, rows = await store.newest_rows(
        policy, model, after=9, limit=4, embedded_rows=4, as_of_step=None
    )
    assert [row.seq for row in rows] == [10]
    _, rows = await store.newest_rows(
        policy, model, after=0, limit=4, embedded_rows=4, as_of_step=5
    )
    assert [row.step for row in rows] == [1, 3, 5]


async def test_embeddings_are_read_of_the_newest_rows_alone(store: OutcomeStore) -> None:
    model = await store.model_key("model")
    chunk = [outcome(f"{i}", f"p{i}", step=i) for i in range(10)]
    policy = (await store.append("a", chunk)).policy
    await store.save_embeddings(
        model, {prompt_digest(f"p{i}"): np.full(2, i, np.float16) for i in range(10)}
    )
    for as_of_step, newest in ((None, 10), (6, 7)):
        for embedded_rows in (0, 2, 5, 9):
            _, rows = await store.newest_rows(
                policy, model, after=0, limit=5, embedded_rows=embedded_rows, as_of_step=as_of_step
            )
            assert [row.seq for row in rows] == list(range(newest - 4, newest + 1))
            embedded = [row.vector is not None for row in rows]
            assert embedded == [position >= 5 - embedded_rows for position in range(5)]


async def test_rows_after_a_version_are_found_across_other_changes(store: OutcomeStore) -> None:
    policy = (await store.append("a", sums(3))).policy
    price = Price(1.0, PriceUnit.MONEY)
    await store.update_policy("a", {"price": price})
    await store.append("a", sums(5))
    await store.update_policy("a", {"price": None})
    version, rows = await store.newest_rows(
        policy, 0, after=policy.version, limit=9, embedded_rows=0, as_of_step=None
    )
    assert version == 7
    assert [row.seq for row in rows] == [5, 6]


async def test_a_page_ends_with_the_version_asked_for(store: OutcomeStore) -> None:
    policy = (await store.append("a", sums(3))).policy
    await store.append("a", sums(5))
    page = await store.outcomes(policy, after=1, limit=9)
    assert [row.seq for row in page] == [2, 3]
    assert await store.outcomes(policy, after=3, limit=9) == []


async def test_a_deleted_policy_has_neither_rows_nor_outcomes(store: OutcomeStore) -> None:
    policy = (await store.append("a", sums(1))).policy
    assert (await store.policy_version("a")) == policy
    model = await store.model_key("model")
    await store.delete_policy("a")
    await store.append("a", sums(1))
    with pytest.raises(UnknownPolicyError):
        await store.newest_rows(policy, model, after=0, limit=5, embedded_rows=5, as_of_step=None)
    with pytest.raises(UnknownPolicyError):
        await store.outcomes(policy, after=0, limit=5)


async def test_appends_are_counted(store: OutcomeStore) -> None:
    await store.append("a", sums(3))
    await store.append("b", sums(1))
    await store.update_policy("b", {"labels": {}})
    assert (store.changes, store.deletions) == (2, 0)
    await store.delete_policy("b")
    assert (store.changes, store.deletions) == (2, 1)


async def test_new_prompts_are_named_once(store: OutcomeStore) -> None:
    first = await store.append("a", [outcome("1", "x"), outcome("2", "y"), outcome("3", "x")])
    assert sorted(first.new_prompts) == ["x", "y"]
    second = await store.append("b", [outcome("1", "y"), outcome("2", "z")])
    assert second.new_prompts == ("z",)
    assert set(await prompt_keys(store, "b")) == {"y", "z"}
