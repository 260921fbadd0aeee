"""Calls with the generated stubs, without the client."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from vzero.v1 import policy_pb2, policy_pb2_grpc, server_pb2_grpc, value_pb2, value_pb2_grpc
from vzero_server.testing.local_server import LocalServer

TIMEOUT = 60.0


class Stubs:
    """A channel to a server and the stubs of its services."""

    def __init__(self, server: LocalServer) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(server.address, options)
        self.values = value_pb2_grpc.ValueServiceStub(self.channel)
        self.server = server_pb2_grpc.ServerServiceStub(self.channel)
        self.policies = policy_pb2_grpc.PolicyServiceStub(self.channel)

    def update(
        self, *chunks: value_pb2.UpdateContextRequest
    ) -> list[value_pb2.UpdateContextResponse]:
        """Stream chunks and collect the acks."""
        return list(self.values.UpdateContext(iter(chunks), timeout=TIMEOUT))

    def predict(
        self, policy_id: str, prompts: Iterable[str], **fields: object
    ) -> value_pb2.PredictResponse:
        """Predict; ``fields`` go into the request."""
        request = value_pb2.PredictRequest(policy_id=policy_id, prompts=prompts, **fields)  # type: ignore[arg-type]
        reply: value_pb2.PredictResponse = self.values.Predict(request, timeout=TIMEOUT)
        return reply

    def allocate(
        self, policy_id: str, prompts: Iterable[str], total: int, **fields: object
    ) -> value_pb2.AllocateBudgetResponse:
        """Allocate; ``fields`` go into the request."""
        request = value_pb2.AllocateBudgetRequest(
            policy_id=policy_id,
            prompts=prompts,
            total=total,
            **fields,  # type: ignore[arg-type]
        )
        reply: value_pb2.AllocateBudgetResponse = self.values.AllocateBudget(
            request, timeout=TIMEOUT
        )
        return reply

    def rank(self, prompts: Iterable[str], **fields: object) -> value_pb2.RankModelsResponse:
        """Rank; ``fields`` go into the request."""
        request = value_pb2.RankModelsRequest(prompts=prompts, **fields)  # type: ignore[arg-type]
        reply: value_pb2.RankModelsResponse = self.values.RankModels(request, timeout=TIMEOUT)
        return reply

    def describe(self, policy_id: str, **fields: object) -> policy_pb2.Policy:
        """Set price or labels of a policy; ``fields`` go into the request."""
        request = policy_pb2.UpdatePolicyRequest(policy_id=policy_id, **fields)  # type: ignore[arg-type]
        policy: policy_pb2.Policy = self.policies.UpdatePolicy(request, timeout=TIMEOUT).policy
        return policy

    def fleet(self, name: str, policy_ids: Iterable[str]) -> policy_pb2.Fleet:
        """Store a fleet."""
        request = policy_pb2.UpdateFleetRequest(name=name, policy_ids=policy_ids)
        fleet: policy_pb2.Fleet = self.policies.UpdateFleet(request, timeout=TIMEOUT).fleet
        return fleet


@contextmanager
def refused(code: grpc.StatusCode, *fields: str) -> Iterator[list[grpc.RpcError]]:
    """Expect a call to end with a code, and with violations of these fields if any."""
    caught: list[grpc.RpcError] = []
    with pytest.raises(grpc.RpcError) as error:
        yield caught
    caught.append(error.value)
    assert error.value.code() is code, error.value.details()
    if fields:
        bad = detail(error.value, error_details_pb2.BadRequest)
        named = dict.fromkeys(violation.field for violation in bad.field_violations)
        assert list(named) == list(fields)


def detail(error: grpc.RpcError, kind: type) -> "object":
    """The detail of an error that has a given type."""
    trailing = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} in {status}")
