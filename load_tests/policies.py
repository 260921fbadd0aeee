"""Temporary policies of load tests and benchmarks."""

from collections.abc import Sequence

import grpc

from load_tests.messages import check_acks, chunks, predict_request
from load_tests.prompts import common_prompts
from vzero.v1 import policy_pb2, policy_pb2_grpc, value_pb2_grpc

ROWS = 64
"""Outcomes of each policy before the load begins."""

_TIMEOUT = 600.0


def names(mix: str, seed: str, concurrencies: Sequence[int]) -> tuple[str, ...]:
    """Names for the policies of a load: four for routers, one for each trainer."""
    count = 4 if mix == "router" else max(concurrencies)
    return tuple(f"load-{mix}-{seed}-{number}" for number in range(count))


def create(channel: grpc.Channel, policy_ids: Sequence[str], *, rows: int = ROWS) -> None:
    """Create policies with some outcomes, and wait until their prompts are embedded.

    Raises:
        grpc.RpcError: A call fails.
    """
    append(channel, policy_ids, rows=rows, pool=rows)
    wait_embedded(channel, policy_ids)


def append(channel: grpc.Channel, policy_ids: Sequence[str], *, rows: int, pool: int) -> None:
    """Append outcomes to each policy; a repeated call changes nothing.

    Args:
        channel: Channel to the server.
        policy_ids: The policies. Each starts at another prompt of the pool.
        rows: Outcomes of each policy.
        pool: Number of common prompts that the outcomes cycle through.

    Raises:
        grpc.RpcError: A call fails.
    """
    stub = value_pb2_grpc.ValueServiceStub(channel)
    prompts = common_prompts(pool)
    for number, policy_id in enumerate(policy_ids):
        policy_prompts = [prompts[(number * 97 + row) % pool] for row in range(rows)]
        requests = chunks(policy_id, policy_prompts, run="fill", step=0, rows=256)
        check_acks(requests, list(stub.UpdateContext(iter(requests), timeout=_TIMEOUT)))


def wait_embedded(channel: grpc.Channel, policy_ids: Sequence[str]) -> None:
    """Wait until the prompts of policies are embedded.

    Raises:
        grpc.RpcError: A call fails.
    """
    stub = value_pb2_grpc.ValueServiceStub(channel)
    for policy_id in policy_ids:
        stub.Predict(predict_request(policy_id, common_prompts(1)), timeout=_TIMEOUT)


def delete(channel: grpc.Channel, policy_ids: Sequence[str]) -> None:
    """Delete policies; missing ones are ignored.

    Raises:
        grpc.RpcError: A call fails otherwise.
    """
    stub = policy_pb2_grpc.PolicyServiceStub(channel)
    for policy_id in policy_ids:
        try:
            stub.DeletePolicy(policy_pb2.DeletePolicyRequest(policy_id=policy_id), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            assert isinstance(error, grpc.Call)
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
