import time
from collections.abc import Iterator

import grpc
import msgpack
import pytest

from tests.api.calls import TIMEOUT, Stubs, refused
from tests.outcomes import chunk, outcome, sums
from vzero.v1 import policy_pb2
from vzero_server.storage import bundle


def get(stubs: Stubs, policy_id: str) -> policy_pb2.Policy:
    request = policy_pb2.GetPolicyRequest(policy_id=policy_id)
    return stubs.policies.GetPolicy(request, timeout=TIMEOUT).policy


def export(stubs: Stubs, policy_id: str) -> bytes:
    request = policy_pb2.ExportContextRequest(policy_id=policy_id)
    return b"".join(r.data for r in stubs.policies.ExportContext(request, timeout=TIMEOUT))


def import_(stubs: Stubs, data: bytes, policy_id: str = "") -> policy_pb2.ImportContextResponse:
    def pieces() -> Iterator[policy_pb2.ImportContextRequest]:
        for start in range(0, max(1, len(data)), 1000):
            yield policy_pb2.ImportContextRequest(
                data=data[start : start + 1000], policy_id=policy_id
            )

    return stubs.policies.ImportContext(pieces(), timeout=TIMEOUT)


def test_a_policy_is_described(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, [outcome("1", reward=0.25, step=4), outcome("2", reward=1.0)]))
    record = get(stubs, policy)
    assert (record.policy_id, record.version, record.newest_step) == (policy, 2, 4)
    assert record.mean_reward == pytest.approx(0.625)
    assert abs(record.updated_at.seconds - time.time()) < 60


def test_policies_are_listed_page_by_page(stubs: Stubs, policy: str) -> None:
    names = [f"{policy}-{letter}" for letter in "cabde"]
    for name in names:
        stubs.update(chunk(name, sums(1)))
    listed, token = [], ""
    while True:
        request = policy_pb2.ListPoliciesRequest(page_size=2, page_token=token)
        page = stubs.policies.ListPolicies(request, timeout=TIMEOUT)
        assert len(page.policies) <= 2
        listed += [one.policy_id for one in page.policies]
        token = page.next_page_token
        if not token:
            break
    assert listed == sorted(listed)
    assert set(names) <= set(listed)


def test_versions_count_changes_and_outcomes_are_counted_separately(
    stubs: Stubs, policy: str
) -> None:
    stubs.update(chunk(policy, sums(3)))
    priced = stubs.describe(policy, price={"params_ratio": 7.0})
    assert (priced.version, priced.outcomes) == (4, 3)
    context = stubs.predict(policy, ["x"], min_version=4).context
    assert (context.version, context.rows) == (4, 3)
    (ack,) = stubs.update(chunk(policy, sums(5)))
    assert (ack.version, ack.accepted, ack.duplicates) == (6, 2, 3)
    stubs.describe(policy, labels={"family": "qwen"})
    reply = stubs.predict(policy, [sums(5)[4].prompt], min_version=7)
    assert (reply.context.version, reply.context.rows) == (7, 5)
    # The newest outcome, whose number lies below the version, is part of the history.
    assert reply.values[0].history.rollouts == 10
    assert get(stubs, policy).mean_reward == pytest.approx(0.6)
    copy = import_(stubs, export(stubs, policy), f"{policy}-copy")
    assert (copy.version, copy.accepted) == (5, 5)
    request = policy_pb2.DeletePolicyRequest(policy_id=policy)
    assert stubs.policies.DeletePolicy(request, timeout=TIMEOUT).outcomes == 5


def test_a_deleted_policy_can_be_created_again(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(20)))
    stubs.predict(policy, ["x"])
    request = policy_pb2.DeletePolicyRequest(policy_id=policy)
    assert stubs.policies.DeletePolicy(request, timeout=TIMEOUT).outcomes == 20
    for call in (lambda: get(stubs, policy), lambda: stubs.predict(policy, ["x"])):
        with refused(grpc.StatusCode.NOT_FOUND):
            call()
    with refused(grpc.StatusCode.NOT_FOUND):
        stubs.policies.DeletePolicy(request, timeout=TIMEOUT)
    assert stubs.update(chunk(policy, sums(3)))[0].version == 3
    assert stubs.predict(policy, ["x"]).context.rows == 3


def test_a_bundle_can_be_exported_and_imported(stubs: Stubs, policy: str) -> None:
    outcomes = [
        outcome(f"{i}", f"prompt {i} é\x00", reward=i / 2000, cost=i or None, step=i // 9 or None)
        for i in range(1300)
    ]
    stubs.update(chunk(policy, outcomes))
    data = export(stubs, policy)
    copy = policy + "-copy"
    reply = import_(stubs, data, copy)
    assert (reply.policy_id, reply.version, reply.accepted, reply.duplicates) == (
        copy,
        1300,
        1300,
        0,
    )
    again = import_(stubs, data, copy)
    assert (again.version, again.accepted, again.duplicates) == (1300, 0, 1300)
    # All fields except the times of storing are equal.
    exported = {**msgpack_rows(data)}
    assert msgpack_rows(export(stubs, copy)) == exported
    prompts = ["prompt 7", "something else"]
    assert stubs.predict(copy, prompts).values == stubs.predict(policy, prompts).values
    # Under its old name, into a server that has the policy already.
    assert import_(stubs, data).duplicates == 1300


def msgpack_rows(data: bytes) -> dict[str, list[object]]:
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    return {row[0]: row for item in unpacker if isinstance(item, list) for row in item}


def test_a_truncated_bundle_stores_nothing(stubs: Stubs, policy: str) -> None:
    stubs.update(chunk(policy, sums(700)))
    data = export(stubs, policy)
    for length in (0, 1, len(data) // 2, len(data) - 1):
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "data"):
            import_(stubs, data[:length], policy + "-copy")
    with refused(grpc.StatusCode.NOT_FOUND):
        get(stubs, policy + "-copy")


def test_a_bundle_of_a_newer_format_is_rejected(stubs: Stubs) -> None:
    header = {"format": bundle.FORMAT, "format_version": 9, "policy_id": "p", "exported_at": 1.0}
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "data") as caught:
        import_(stubs, msgpack.packb(header))
    assert "format version 9; this server reads up to 2" in str(caught[0].details())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"reward": 1.5}, "outcomes[1].reward"),
        ({"rollouts": 0}, "outcomes[1].rollouts"),
        ({"rollouts": 2**40}, "data"),
        ({"prompt": ""}, "outcomes[1].prompt"),
        ({"observed_at": -5.0}, "outcomes[1].observed_at"),
    ],
)
def test_outcomes_of_a_bundle_are_validated(
    stubs: Stubs, policy: str, fields: dict[str, object], named: str
) -> None:
    writer = bundle.BundleWriter()
    data = writer.header(bundle.Header(policy, 1.0))
    data += writer.outcomes([outcome("1"), outcome("2", **fields)]) + writer.footer()  # type: ignore[arg-type]
    with refused(grpc.StatusCode.INVALID_ARGUMENT, named):
        import_(stubs, data)
    with refused(grpc.StatusCode.NOT_FOUND):
        get(stubs, policy)


def test_a_bundle_without_outcomes_is_refused(stubs: Stubs, policy: str) -> None:
    writer = bundle.BundleWriter()
    data = writer.header(bundle.Header(policy, 1.0)) + writer.footer()
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "data"):
        import_(stubs, data)


def test_exporting_an_unknown_policy(stubs: Stubs) -> None:
    with refused(grpc.StatusCode.NOT_FOUND):
        export(stubs, "unknown")
