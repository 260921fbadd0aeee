import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.outcomes import sums
from vzero_server.errors import UnknownPolicyError
from vzero_server.storage.cached import ContextStore
from vzero_server.storage.sqlite import Database


@pytest_asyncio.fixture
async def store(tmp_path) -> AsyncIterator[ContextStore]:  # noqa: ANN001
    opened = ContextStore(Database(tmp_path / "data"))
    yield opened
    opened.close()


async def test_concurrent_appends_to_one_policy_leave_no_gap(store: ContextStore) -> None:
    chunks = [sums(5, start=5 * i) for i in range(40)]
    appended = await asyncio.gather(*(store.append("a", chunk) for chunk in chunks))
    assert sorted(a.policy.version for a in appended) == list(range(5, 201, 5))
    assert (await store.policy_version("a")).version == 200


async def test_the_head_waits_for_a_version(store: ContextStore) -> None:
    await store.append("a", sums(1))
    waiting = asyncio.create_task(store.policy_version("a", min_version=3))
    for count in (2, 3):
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await store.append("a", sums(count))
    assert (await waiting).version == 3


async def test_an_unknown_policy_is_told_apart(store: ContextStore) -> None:
    for call in (
        store.policy("x"),
        store.policy_version("x", min_version=5),
        store.delete_policy("x"),
    ):
        with pytest.raises(UnknownPolicyError, match="'x'"):
            await call


async def test_deleting_wakes_those_who_wait(store: ContextStore) -> None:
    await store.append("a", sums(1))
    waiting = asyncio.create_task(store.policy_version("a", min_version=3))
    await asyncio.sleep(0.01)
    assert await store.delete_policy("a") == 1
    with pytest.raises(UnknownPolicyError):
        await waiting


async def test_a_deleted_policy_has_no_tail(store: ContextStore) -> None:
    await store.append("a", sums(1))
    head = await store.policy_version("a")
    model = await store.model_key("model")
    await store.delete_policy("a")
    with pytest.raises(UnknownPolicyError):
        await store.newest_rows(head, model, after=0, limit=5, depth=5, as_of_step=None)


async def test_the_heads_of_many_policies_are_read_together(
    store: ContextStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        await store.append(name, sums(count))
    heads = await store.policy_versions(["c", "a", "b", "a"])
    assert [head.version for head in heads] == [2, 3, 1, 3]
    with pytest.raises(UnknownPolicyError, match="'x'"):
        await store.policy_versions(["a", "x"])
    # Nothing is in memory yet of a store that was just opened.
    again = ContextStore(store._database)

    async def forbidden(policy_id: str) -> None:
        raise AssertionError(f"{policy_id} was asked for alone")

    monkeypatch.setattr(again, "policy", forbidden)
    assert await again.policy_versions(["c", "a"]) == heads[:2]
    again._writer.close()
    again._readers.shutdown()
