"""Contract of stores: tenants have separate policies and fleets."""

import pytest

from tests.outcomes import outcome, sums
from tests.storage.stores import prompt_keys
from vzero_server.errors import UnknownFleetError, UnknownPolicyError
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import DEFAULT_TENANT, Fleet


async def test_policies_of_two_tenants_share_only_their_name(store: OutcomeStore) -> None:
    policy = (await store.append("a", sums(3))).policy
    other_policy = (await store.append("a", sums(2), tenant="other")).policy
    assert (policy.tenant, other_policy.tenant) == (DEFAULT_TENANT, "other")
    assert policy.key != other_policy.key
    assert await store.policy_version("a") == policy
    assert await store.policy_version("a", tenant="other") == other_policy
    assert await store.policy_versions(["a"], tenant="other") == [other_policy]
    await store.update_policy("a", {"labels": {"team": "blue"}}, tenant="other")
    for tenant, outcomes, labels in ((DEFAULT_TENANT, 3, {}), ("other", 2, {"team": "blue"})):
        record = await store.policy("a", tenant=tenant)
        assert (record.tenant, record.outcomes, record.labels) == (tenant, outcomes, labels)
        assert await store.policies_by_id(["a"], tenant=tenant) == [record]
        assert await store.policies("", 10, tenant=tenant) == [record]
    assert await store.delete_policy("a", tenant="other") == 2
    assert (await store.policy("a")).outcomes == 3
    for call in (store.policy("a", tenant="other"), store.policy_version("a", tenant="other")):
        with pytest.raises(UnknownPolicyError):
            await call


async def test_fleets_of_two_tenants_share_only_their_name(store: OutcomeStore) -> None:
    await store.append("a", sums(1))
    await store.append("b", sums(1), tenant="other")
    with pytest.raises(UnknownPolicyError, match="'b'"):
        await store.write_fleet("fleet", ["b"])
    await store.write_fleet("fleet", ["a"])
    with pytest.raises(UnknownFleetError):
        await store.fleet("fleet", tenant="other")
    await store.write_fleet("fleet", ["b"], tenant="other")
    assert await store.fleets("", 10) == [Fleet("fleet", ("a",))]
    await store.delete_fleet("fleet")
    assert await store.fleet("fleet", tenant="other") == Fleet("fleet", ("b",))


async def test_peers_are_of_the_same_tenant(store: OutcomeStore) -> None:
    chunk = [outcome("1", "shared")]
    policy = (await store.append("a", chunk)).policy
    peer = (await store.append("b", chunk)).policy
    await store.append("c", chunk, tenant="other")
    prompts = list((await prompt_keys(store, "a")).values())
    # A limit of one peer must not be used up by a policy of the other tenant.
    assert [p.key for p in await store.find_peers(policy.key, prompts, 1)] == [peer.key]
    assert [p.key for p in await store.find_peers(policy.key, prompts, 10)] == [peer.key]
