import math

import grpc
import pytest
from google.rpc import error_details_pb2

from tests.api.calls import TIMEOUT, Stubs, detail, refused
from tests.outcomes import chunk, outcome, sums
from vzero.v1 import policy_pb2, value_pb2

BAD = grpc.StatusCode.INVALID_ARGUMENT

LONG = "é" * 40_000  # 80,000 bytes


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"policy_id": ""}, "policy_id"),
        ({"policy_id": "p" * 257}, "policy_id"),
        ({"policy_id": "line\nbreak"}, "policy_id"),
        ({"prompts": []}, "prompts"),
        ({"prompts": ["x"] * 4097}, "prompts"),
        ({"prompts": ["fine", ""]}, "prompts[1]"),
        ({"prompts": ["fine", "fine", LONG]}, "prompts[2]"),
        ({"estimator": "best"}, "estimator"),
        ({"estimator": "e" * 65}, "estimator"),
        ({"as_of_step": -1}, "as_of_step"),
        ({"min_version": -1}, "min_version"),
    ],
)
def test_predict_names_the_bad_field(stubs: Stubs, fields: dict[str, object], named: str) -> None:
    request = value_pb2.PredictRequest(**({"policy_id": "p", "prompts": ["x"]} | fields))  # type: ignore[arg-type]
    with refused(BAD, named):
        stubs.values.Predict(request, timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"reward": math.nan}, "reward"),
        ({"reward": math.inf}, "reward"),
        ({"reward": -0.01}, "reward"),
        ({"reward": 1.01}, "reward"),
        ({"rollouts": 0}, "rollouts"),
        ({"rollouts": -3}, "rollouts"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": LONG}, "prompt"),
        ({"cost": math.nan}, "cost"),
        ({"cost": -1.0}, "cost"),
        ({"step": -1}, "step"),
        ({"outcome_id": ""}, "outcome_id"),
        ({"outcome_id": "i" * 129}, "outcome_id"),
    ],
)
def test_a_bad_outcome_is_named_and_its_chunk_is_not_stored(
    stubs: Stubs, policy: str, fields: dict[str, object], named: str
) -> None:
    good, bad = chunk(policy, sums(5)), chunk(policy, sums(3, start=5))
    for name, value in fields.items():
        setattr(bad.outcomes[1], name, value)
    acks = []
    with pytest.raises(grpc.RpcError) as error:
        acks.extend(stubs.values.UpdateContext(iter([good, bad, good]), timeout=TIMEOUT))
    assert error.value.code() is BAD
    violations = detail(error.value, error_details_pb2.BadRequest).field_violations  # type: ignore[attr-defined]
    assert {violation.field for violation in violations} == {f"outcomes[1].{named}"}
    record = stubs.policies.GetPolicy(policy_pb2.GetPolicyRequest(policy_id=policy)).policy
    assert record.version == 5


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (value_pb2.UpdateContextRequest(policy_id="p"), "outcomes"),
        (chunk("", sums(1)), "policy_id"),
        (chunk("p", [outcome(str(i)) for i in range(4097)]), "outcomes"),
    ],
)
def test_a_bad_chunk_is_named(
    stubs: Stubs, request_: value_pb2.UpdateContextRequest, named: str
) -> None:
    with refused(BAD, named):
        stubs.update(request_)


def test_the_acks_before_a_bad_chunk_arrive(stubs: Stubs, policy: str) -> None:
    call = stubs.values.UpdateContext(
        iter([chunk(policy, sums(5)), chunk(policy, [outcome("")])]), timeout=TIMEOUT
    )
    assert next(call).version == 5
    with refused(BAD, "outcomes[0].outcome_id"):
        next(call)


def test_an_invalid_time_is_rejected(stubs: Stubs, policy: str) -> None:
    for seconds in (-1, 1 << 40):
        request = chunk(policy, [outcome("1"), outcome("2")])
        request.outcomes[1].observed_at.seconds = seconds
        with refused(BAD, "outcomes[1].observed_at"):
            stubs.update(request)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\x0a\x02\xff\xfe\x12\x01x", "policy_id"),
        (b"\x0a\x01p\x12\x01x\x12\x03a\xff\xfe", "prompts[1]"),
        (b"\x0a\x7f cut", "vzero.v1.PredictRequest"),
    ],
)
def test_bytes_that_do_not_decode_are_explained(stubs: Stubs, data: bytes, named: str) -> None:
    with refused(BAD, named):
        stubs.channel.unary_unary("/vzero.v1.ValueService/Predict")(data, timeout=TIMEOUT)


def test_invalid_utf8_in_a_stream_is_named_and_keeps_what_came_before(
    stubs: Stubs, policy: str
) -> None:
    bad = (
        chunk(policy, [outcome("1", "????")])
        .SerializeToString()
        .replace(b"????", b"\xf0\x28\x8c\x28")
    )
    good = chunk(policy, sums(4)).SerializeToString()
    method = stubs.channel.stream_stream("/vzero.v1.ValueService/UpdateContext")
    call = method(iter([good, bad]), timeout=TIMEOUT)
    assert value_pb2.UpdateContextResponse.FromString(next(call)).version == 4
    with refused(BAD, "outcomes[0].prompt"):
        next(call)


def test_a_message_over_the_limit_is_rejected(stubs: Stubs, policy: str) -> None:
    prompts = ["x" * 60_000] * 1200  # 72 MB
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED) as caught:
        stubs.predict(policy, prompts)
    assert "larger than max" in str(caught[0].details())


def test_a_method_that_is_not_there(stubs: Stubs) -> None:
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        stubs.channel.unary_unary("/vzero.v1.ValueService/Guess")(b"", timeout=TIMEOUT)


@pytest.mark.parametrize("token", ["!", "////", "\x00"])
def test_an_invalid_page_token(stubs: Stubs, token: str) -> None:
    with refused(BAD, "page_token"):
        stubs.policies.ListPolicies(
            policy_pb2.ListPoliciesRequest(page_token=token), timeout=TIMEOUT
        )


def test_a_page_that_is_too_large(stubs: Stubs) -> None:
    with refused(BAD, "page_size"):
        stubs.policies.ListPolicies(policy_pb2.ListPoliciesRequest(page_size=1001), timeout=TIMEOUT)
