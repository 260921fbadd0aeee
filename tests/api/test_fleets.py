"""Fleets, prices and labels over gRPC."""

import math

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2

from tests.api.calls import TIMEOUT, Stubs, detail, refused
from tests.outcomes import chunk, outcome
from vzero.v1 import policy_pb2
from vzero_server.testing.local_server import LocalServer

BAD = grpc.StatusCode.INVALID_ARGUMENT
MISSING = grpc.StatusCode.NOT_FOUND


@pytest.fixture
def members(stubs: Stubs, policy: str) -> list[str]:
    """Three policies of one outcome each."""
    names = [f"{policy}-{letter}" for letter in "bca"]
    for name in names:
        stubs.update(chunk(name, [outcome("1", cost=1.0)]))
    return names


def get(stubs: Stubs, name: str) -> list[str]:
    reply = stubs.policies.GetFleet(policy_pb2.GetFleetRequest(name=name), timeout=TIMEOUT)
    assert reply.fleet.name == name
    return list(reply.fleet.policy_ids)


def delete(stubs: Stubs, name: str) -> None:
    stubs.policies.DeleteFleet(policy_pb2.DeleteFleetRequest(name=name), timeout=TIMEOUT)


def delete_policy(stubs: Stubs, policy_id: str) -> None:
    request = policy_pb2.DeletePolicyRequest(policy_id=policy_id)
    stubs.policies.DeletePolicy(request, timeout=TIMEOUT)


def ranked(stubs: Stubs, fleet: str) -> set[str]:
    (ranking,) = stubs.rank(["What is 1 plus 2?"], fleet=fleet).rankings
    return {candidate.policy_id for candidate in ranking.candidates}


def test_a_fleet_is_stored_replaced_and_deleted(
    stubs: Stubs, members: list[str], policy: str
) -> None:
    made = stubs.fleet(policy, members)
    assert (made.name, list(made.policy_ids)) == (policy, members)
    assert get(stubs, policy) == members
    assert ranked(stubs, policy) == set(members)
    stubs.fleet(policy, members[:1])
    assert get(stubs, policy) == members[:1]
    assert ranked(stubs, policy) == set(members[:1])
    delete(stubs, policy)
    with refused(MISSING) as caught:
        stubs.rank(["x"], fleet=policy)
    info = detail(caught[0], error_details_pb2.ErrorInfo)
    assert info.reason == "UNKNOWN_FLEET"  # type: ignore[attr-defined]
    for call in (get, delete):
        with refused(MISSING):
            call(stubs, policy)
    assert ranked_alone(stubs, members) == set(members), "its policies stay"


def ranked_alone(stubs: Stubs, policy_ids: list[str]) -> set[str]:
    (ranking,) = stubs.rank(["x"], policy_ids=policy_ids).rankings
    return {candidate.policy_id for candidate in ranking.candidates}


def test_fleets_are_listed_page_by_page(stubs: Stubs, members: list[str], policy: str) -> None:
    names = [f"{policy}/{letter}" for letter in "dbac"]
    for name in names:
        stubs.fleet(name, members)
    listed, token = [], ""
    while True:
        request = policy_pb2.ListFleetsRequest(page_size=3, page_token=token)
        page = stubs.policies.ListFleets(request, timeout=TIMEOUT)
        assert len(page.fleets) <= 3
        listed += [(fleet.name, list(fleet.policy_ids)) for fleet in page.fleets]
        token = page.next_page_token
        if not token:
            break
    assert listed == sorted(listed)
    assert [one for one in listed if one[0] in names] == [(name, members) for name in sorted(names)]


def test_a_deleted_policy_leaves_its_fleets(stubs: Stubs, members: list[str], policy: str) -> None:
    stubs.fleet(policy, members)
    delete_policy(stubs, members[1])
    assert get(stubs, policy) == [members[0], members[2]]
    assert ranked(stubs, policy) == {members[0], members[2]}
    # A policy that is created again under the name is another policy.
    stubs.update(chunk(members[1], [outcome("1")]))
    assert get(stubs, policy) == [members[0], members[2]]
    for name in (members[0], members[2]):
        delete_policy(stubs, name)
    assert get(stubs, policy) == []
    with refused(BAD, "fleet"):
        stubs.rank(["x"], fleet=policy)


@pytest.mark.parametrize(
    ("name", "policy_ids", "named"),
    [
        ("", ["p"], "name"),
        ("line\nbreak", ["p"], "name"),
        ("n" * 257, ["p"], "name"),
        ("f", [], "policy_ids"),
        ("f", ["p", "p"], "policy_ids"),
        ("f", ["p", ""], "policy_ids[1]"),
        ("f", [str(number) for number in range(257)], "policy_ids"),
    ],
)
def test_a_bad_fleet_is_named(stubs: Stubs, name: str, policy_ids: list[str], named: str) -> None:
    with refused(BAD, named):
        stubs.fleet(name, policy_ids)


def test_a_fleet_of_unknown_policies_is_refused(
    stubs: Stubs, members: list[str], policy: str
) -> None:
    stubs.fleet(policy, members)
    with refused(MISSING) as caught:
        stubs.fleet(policy, [*members, "unknown"])
    assert "unknown" in str(caught[0].details())
    assert get(stubs, policy) == members, "the fleet before stays"


def test_an_invalid_page_token(stubs: Stubs) -> None:
    with refused(BAD, "page_token"):
        stubs.policies.ListFleets(policy_pb2.ListFleetsRequest(page_token="!"), timeout=TIMEOUT)


def test_a_price_makes_a_policy(stubs: Stubs, policy: str) -> None:
    made = stubs.describe(policy, price={"params_ratio": 7.0}, labels={"family": "qwen"})
    assert (made.policy_id, made.version, made.price.params_ratio) == (policy, 1, 7.0)
    assert dict(made.labels) == {"family": "qwen"}
    request = policy_pb2.GetPolicyRequest(policy_id=policy)
    assert stubs.policies.GetPolicy(request, timeout=TIMEOUT).policy == made
    assert stubs.update(chunk(policy, [outcome("1", tokens=5.0)]))[0].version == 2
    now = stubs.policies.GetPolicy(request, timeout=TIMEOUT).policy
    assert (now.price, dict(now.labels)) == (made.price, {"family": "qwen"})
    assert (now.mean_tokens, now.HasField("mean_cost")) == (5.0, False)


def test_fields_that_are_not_named_are_unchanged(stubs: Stubs, policy: str) -> None:
    stubs.describe(policy, price={"money": 0.5}, labels={"a": "1", "b": "2"})
    assert stubs.describe(policy).price.money == 0.5
    assert dict(stubs.describe(policy, price={"params_ratio": 2.0}).labels) == {"a": "1", "b": "2"}
    now = stubs.describe(policy, labels={"c": "3"})
    assert (dict(now.labels), now.price.params_ratio) == ({"c": "3"}, 2.0)
    now = stubs.describe(policy, update_mask=FieldMask(paths=["price"]), labels={"d": "4"})
    assert (dict(now.labels), now.HasField("price")) == ({"c": "3"}, False)
    assert dict(stubs.describe(policy, update_mask=FieldMask(paths=["labels"])).labels) == {}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"policy_id": ""}, "policy_id"),
        ({"price": {"money": -1.0}}, "price.money"),
        ({"price": {"params_ratio": -0.001}}, "price.params_ratio"),
        ({"price": {"money": math.nan}}, "price.money"),
        ({"price": {"params_ratio": math.inf}}, "price.params_ratio"),
        ({"labels": {str(number): "" for number in range(65)}}, "labels"),
        ({"labels": {"": "x"}}, 'labels[""]'),
        ({"labels": {"size": "x" * 257}}, 'labels["size"]'),
        ({"update_mask": FieldMask(paths=["version"])}, "update_mask"),
    ],
)
def test_a_bad_price_is_named(stubs: Stubs, fields: dict[str, object], named: str) -> None:
    with refused(BAD, named):
        stubs.describe(**({"policy_id": "never-made"} | fields))  # type: ignore[arg-type]
    with refused(MISSING):
        stubs.policies.GetPolicy(policy_pb2.GetPolicyRequest(policy_id="never-made"))


def test_fleets_and_prices_survive_a_kill(server: LocalServer) -> None:
    stubs = Stubs(server)
    for number, name in enumerate("abc"):
        stubs.update(chunk(name, [outcome("1", tokens=10.0)]))
        stubs.describe(name, price={"money": float(number)}, labels={"n": name})
    stubs.describe("new", price={"money": 9.0})
    stubs.fleet("fleet", ["c", "new", "a"])
    stubs.fleet("gone", ["a"])
    delete(stubs, "gone")
    delete_policy(stubs, "b")
    request = {"fleet": "fleet", "betas": [0.2, 0.9]}
    before = stubs.rank(["x"], **request).rankings[0]
    listed = stubs.policies.ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=TIMEOUT)
    stubs.channel.close()
    server.kill()
    server.start()
    stubs = Stubs(server)
    again = stubs.policies.ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=TIMEOUT)
    assert again == listed
    fleets = stubs.policies.ListFleets(policy_pb2.ListFleetsRequest(), timeout=TIMEOUT).fleets
    assert [(one.name, list(one.policy_ids)) for one in fleets] == [("fleet", ["c", "new", "a"])]
    after = stubs.rank(["x"], **request).rankings[0]
    assert [one.policy_id for one in after.candidates] == [
        one.policy_id for one in before.candidates
    ]
    assert [list(one.positions) for one in after.orders] == [
        list(one.positions) for one in before.orders
    ]
    stubs.channel.close()
