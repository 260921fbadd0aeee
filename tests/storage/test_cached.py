import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.outcomes import sums
from vzero_server.errors import UnknownPolicyError
from vzero_server.storage.cached import CachedOutcomeStore
from vzero_server.storage.sql.store import SqlOutcomeStore
from vzero_server.storage.sqlite import SqliteDatabase

READS = ("policy", "policies_by_id", "policy_version", "policy_versions")


class Counted:
    """Records the reads of a store."""

    def __init__(self, store: SqlOutcomeStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in READS:
            monkeypatch.setattr(store, name, self._counted(name, getattr(store, name)))

    def _counted(self, name: str, original: Any) -> Any:
        async def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return await original(*args, **kwargs)

        return counted


@pytest_asyncio.fixture
async def behind(tmp_path: Path) -> AsyncIterator[SqlOutcomeStore]:
    """The store behind the cache."""
    opened = SqlOutcomeStore(SqliteDatabase(tmp_path / "data"))
    yield opened
    opened.close()


@pytest.fixture
def reads(behind: SqlOutcomeStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the reads that reached the store behind the cache."""
    return Counted(behind, monkeypatch).calls


def result_without_suspending(call: Coroutine[Any, Any, Any]) -> Any:
    """The result of a call that must not suspend."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    call.close()
    pytest.fail("the call was suspended")


async def test_a_known_version_is_answered_without_a_query(
    behind: SqlOutcomeStore, reads: list[str]
) -> None:
    store = CachedOutcomeStore(behind)
    policy = (await store.append("a", sums(3))).policy
    assert result_without_suspending(store.policy_version("a")) == policy
    assert result_without_suspending(store.policy_version("a", min_version=3)) == policy
    assert result_without_suspending(store.policy_versions(["a", "a"])) == [policy, policy]
    await store.update_policy("a", {"labels": {}})
    assert result_without_suspending(store.policy_version("a", min_version=4)).version == 4
    assert reads == []


async def test_a_wait_for_a_version_makes_no_query(
    behind: SqlOutcomeStore, reads: list[str]
) -> None:
    store = CachedOutcomeStore(behind)
    await store.append("a", sums(1))
    waiting = asyncio.create_task(store.policy_version("a", min_version=3))
    await store.append("a", sums(2))
    await store.append("a", sums(3))
    assert (await waiting).version == 3
    assert reads == []


async def test_versions_of_many_policies_are_read_together(
    behind: SqlOutcomeStore, reads: list[str]
) -> None:
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        await behind.append(name, sums(count))
    store = CachedOutcomeStore(behind)
    versions = await store.policy_versions(["c", "a"])
    assert [policy.version for policy in versions] == [2, 3]
    assert reads.count("policy_versions") == 1
    assert "policy_version" not in reads
    reads.clear()
    assert await store.policy_versions(["a", "c"]) == versions[::-1]
    assert reads == []


async def test_records_are_read_again_only_after_a_change(
    behind: SqlOutcomeStore, reads: list[str]
) -> None:
    store = CachedOutcomeStore(behind)
    await store.append("a", sums(3))
    await store.append("b", sums(1))
    for _ in range(2):
        records = await store.policies_by_id(["b", "a"])
        assert [policy.outcomes for policy in records] == [1, 3]
    assert reads == ["policies_by_id"]
    await store.append("b", sums(2))
    assert [policy.outcomes for policy in await store.policies_by_id(["b", "a"])] == [2, 3]
    assert reads == ["policies_by_id"] * 2


async def test_a_record_read_before_a_change_is_not_kept_after_it(
    behind: SqlOutcomeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CachedOutcomeStore(behind)
    await store.append("a", sums(1))
    original = behind.policies_by_id

    async def slow(*args: Any, **kwargs: Any) -> Any:
        records = await original(*args, **kwargs)
        await store.append("a", sums(2))
        return records

    monkeypatch.setattr(behind, "policies_by_id", slow)
    await store.policies_by_id(["a"])
    monkeypatch.setattr(behind, "policies_by_id", original)
    assert [policy.outcomes for policy in await store.policies_by_id(["a"])] == [2]


async def test_a_policy_deleted_by_another_process_is_dropped_when_its_rows_are_read(
    behind: SqlOutcomeStore,
) -> None:
    store = CachedOutcomeStore(behind)
    policy = (await store.append("a", sums(1))).policy
    await behind.delete_policy("a")
    with pytest.raises(UnknownPolicyError):
        await store.newest_rows(policy, 0, after=0, limit=5, embedded_rows=5, as_of_step=None)
    with pytest.raises(UnknownPolicyError):
        await store.policy_version("a")
