"""Contract of stores: versions, prices, labels and deletion of policies."""

import asyncio

import pytest

from tests.outcomes import outcome, sums
from tests.storage.stores import log_of
from vzero_server.errors import UnknownPolicyError
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Price, PriceUnit


async def test_a_call_with_min_version_waits_for_that_version(store: OutcomeStore) -> None:
    await store.append("a", sums(1))
    waiting = asyncio.create_task(store.policy_version("a", min_version=3))
    for count in (2, 3):
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await store.append("a", sums(count))
    assert (await waiting).version == 3


async def test_an_update_of_the_policy_ends_the_wait_too(store: OutcomeStore) -> None:
    await store.append("a", sums(1))
    waiting = asyncio.create_task(store.policy_version("a", min_version=2))
    await asyncio.sleep(0.01)
    assert (await store.update_policy("a", {"labels": {"team": "blue"}})).version == 2
    assert (await waiting).version == 2


async def test_unknown_policies_are_named(store: OutcomeStore) -> None:
    for call in (
        store.policy("x"),
        store.policy_version("x", min_version=5),
        store.policy_versions(["x"]),
        store.policies_by_id(["x"]),
        store.delete_policy("x"),
    ):
        with pytest.raises(UnknownPolicyError, match="'x'"):
            await call


async def test_deletion_wakes_waiting_calls(store: OutcomeStore) -> None:
    await store.append("a", sums(1))
    waiting = asyncio.create_task(store.policy_version("a", min_version=3))
    await asyncio.sleep(0.01)
    assert await store.delete_policy("a") == 1
    with pytest.raises(UnknownPolicyError):
        await waiting


async def test_versions_of_many_policies_keep_the_order_of_names(store: OutcomeStore) -> None:
    for name, count in (("a", 3), ("b", 1), ("c", 2)):
        await store.append(name, sums(count))
    versions = await store.policy_versions(["c", "a", "b", "a"])
    assert [policy.version for policy in versions] == [2, 3, 1, 3]
    with pytest.raises(UnknownPolicyError, match="'x'"):
        await store.policy_versions(["a", "x"])
    records = await store.policies_by_id(["c", "a", "b", "a"])
    assert [policy.at_version for policy in records] == versions


async def test_costs_and_tokens_are_averaged_over_the_outcomes_that_have_them(
    store: OutcomeStore,
) -> None:
    await store.append("a", [outcome("1"), outcome("2", cost=4.0)])
    (record,) = await store.policies_by_id(["a"])
    assert (record.mean_cost, record.mean_tokens) == (4.0, None)
    more = [outcome("3", cost=1.0, tokens=100.0, decision_id="d"), outcome("2", cost=9.0)]
    await store.append("a", more)
    record = await store.policy("a")
    assert (record.mean_cost, record.mean_tokens) == (2.5, 100.0)
    logged = [row.outcome for row in await log_of(store, "a")]
    assert [(o.cost, o.tokens, o.decision_id) for o in logged] == [
        (None, None, None),
        (4.0, None, None),
        (1.0, 100.0, "d"),
    ]


async def test_price_and_labels_are_set_separately(store: OutcomeStore) -> None:
    price = Price(7.0, PriceUnit.PARAMS)
    record = await store.update_policy("new", {"price": price})
    assert (record.version, record.outcomes, record.price, record.labels) == (1, 0, price, {})
    created_at = record.updated_at
    record = await store.update_policy("new", {"labels": {"region": "eu"}})
    assert (record.price, record.labels) == (price, {"region": "eu"})
    assert record.updated_at >= created_at == record.created_at
    record = await store.update_policy("new", {"price": None})
    assert (record.version, record.price, record.labels) == (3, None, {"region": "eu"})
    assert (await store.append("new", [outcome("1")])).policy.version == 4
    assert await store.policies_by_id(["new"]) == [await store.policy("new")]


async def test_records_follow_every_change(store: OutcomeStore) -> None:
    await store.append("a", [outcome("1", reward=1.0)])
    for change in (
        store.update_policy("a", {"labels": {"team": "blue"}}),
        store.append("a", [outcome("2", reward=0.5)]),
    ):
        await store.policies_by_id(["a"])
        await change
        (record,) = await store.policies_by_id(["a"])
        assert record == await store.policy("a")
    assert (record.version, record.outcomes, record.mean_reward) == (3, 2, 0.75)
    await store.delete_policy("a")
    with pytest.raises(UnknownPolicyError):
        await store.policies_by_id(["a"])


async def test_deleting_a_policy_keeps_the_prompts_of_others(store: OutcomeStore) -> None:
    await store.append("a", [outcome("1", "shared"), outcome("2", "own")])
    await store.append("b", [outcome("1", "shared")])
    await store.update_policy("a", {"labels": {}})
    assert await store.delete_policy("a") == 2
    with pytest.raises(UnknownPolicyError):
        await store.delete_policy("a")
    assert list((await store.prompt_texts(range(1, 10))).values()) == ["shared"]
    appended = await store.append("a", [outcome("1", "new")])
    assert (appended.policy.version, appended.accepted) == (1, 1)
    # The key of a deleted policy is not reused.
    assert (await store.policy("a")).key == 3


async def test_policies_are_listed_in_order_of_name(store: OutcomeStore) -> None:
    for name in ("c", "a", "b"):
        await store.append(name, [outcome("1", reward=0.25), outcome("2", reward=0.75)])
    listed = await store.policies("a", 10)
    assert [(policy.policy_id, policy.mean_reward) for policy in listed] == [("b", 0.5), ("c", 0.5)]
    assert [policy.policy_id for policy in await store.policies("", 2)] == ["a", "b"]
