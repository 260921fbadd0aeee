"""Policies that a load test makes for itself, and takes away again."""

from collections.abc import Sequence

import grpc

from load_tests.messages import check_acks, chunks, predict_request
from load_tests.prompts import common_prompts
from vzero.v1 import policy_pb2, policy_pb2_grpc, value_pb2_grpc

# Outcomes of each policy before the load begins.
ROWS = 64
_TIMEOUT = 600.0


def fill(channel: grpc.Channel, policies: Sequence[str], *, rows: int = ROWS) -> None:
    """Give policies some outcomes, and wait until the server can answer for all of them.

    Raises:
        grpc.RpcError: The server does not take or answer them.
    """
    append(channel, policies, rows=rows, pool=rows)
    settle(channel, policies)


def append(channel: grpc.Channel, policies: Sequence[str], *, rows: int, pool: int) -> None:
    """Give each policy ``rows`` outcomes of the ``pool`` common prompts, round about.

    Each policy starts at another prompt. Appending the same again changes nothing.

    Raises:
        grpc.RpcError: The server does not take them.
    """
    stub = value_pb2_grpc.ValueServiceStub(channel)
    prompts = common_prompts(pool)
    for number, policy_id in enumerate(policies):
        mine = [prompts[(number * 97 + row) % pool] for row in range(rows)]
        requests = chunks(policy_id, mine, run="fill", step=0, rows=256)
        check_acks(requests, list(stub.UpdateContext(iter(requests), timeout=_TIMEOUT)))


def settle(channel: grpc.Channel, policies: Sequence[str]) -> None:
    """Wait until policies can be answered for: their prompts are embedded.

    Raises:
        grpc.RpcError: The server does not answer.
    """
    stub = value_pb2_grpc.ValueServiceStub(channel)
    for policy_id in policies:
        stub.Predict(predict_request(policy_id, common_prompts(1)), timeout=_TIMEOUT)


def forget(channel: grpc.Channel, policies: Sequence[str]) -> None:
    """Delete policies; those that are not there are none of our business."""
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    for policy_id in policies:
        try:
            stub.DeletePolicy(policy_pb2.DeletePolicyRequest(policy_id=policy_id), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
