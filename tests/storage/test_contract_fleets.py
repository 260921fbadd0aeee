"""Contract of stores: fleets."""

import pytest

from tests.outcomes import outcome
from vzero_server.errors import UnknownFleetError, UnknownPolicyError
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import Fleet


async def test_a_fleet_keeps_its_order_and_can_be_replaced(store: OutcomeStore) -> None:
    for name in "abc":
        await store.append(name, [outcome("1")])
    with pytest.raises(UnknownFleetError, match="'fleet'"):
        await store.fleet("fleet")
    await store.write_fleet("fleet", ["c", "a"])
    assert await store.fleet("fleet") == Fleet("fleet", ("c", "a"))
    await store.write_fleet("fleet", ["b", "c", "a"])
    await store.write_fleet("another", ["a"])
    assert await store.fleets("", 10) == [
        Fleet("another", ("a",)),
        Fleet("fleet", ("b", "c", "a")),
    ]
    assert [fleet.name for fleet in await store.fleets("another", 10)] == ["fleet"]
    assert len(await store.fleets("", 1)) == 1


async def test_a_fleet_of_unknown_policies_is_not_stored(store: OutcomeStore) -> None:
    await store.append("a", [outcome("1")])
    with pytest.raises(UnknownPolicyError, match="'b'"):
        await store.write_fleet("fleet", ["a", "b"])
    with pytest.raises(UnknownFleetError):
        await store.fleet("fleet")


async def test_deleting_policies_and_fleets_leaves_others_unchanged(store: OutcomeStore) -> None:
    for name in "ab":
        await store.append(name, [outcome("1")])
    await store.write_fleet("fleet", ["a", "b"])
    await store.delete_policy("a")
    assert await store.fleet("fleet") == Fleet("fleet", ("b",))
    await store.append("a", [outcome("1")])
    assert await store.fleet("fleet") == Fleet("fleet", ("b",))
    await store.delete_fleet("fleet")
    with pytest.raises(UnknownFleetError):
        await store.delete_fleet("fleet")
    assert (await store.policy("b")).outcomes == 1
