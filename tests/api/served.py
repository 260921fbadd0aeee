"""A gRPC server on loopback whose methods a test gives, behind interceptors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from vzero.v1 import policy_pb2, policy_pb2_grpc, value_pb2, value_pb2_grpc
from vzero_server.api.call import Context, Interceptor
from vzero_server.api.chain import InterceptorChain

Predict = Callable[[value_pb2.PredictRequest, Context], Awaitable[value_pb2.PredictResponse]]

PREDICT = "/vzero.v1.ValueService/Predict"
REQUEST = value_pb2.PredictRequest(policy_id="p", prompts=["a prompt"])


async def predict_nothing(
    request: value_pb2.PredictRequest, context: Context
) -> value_pb2.PredictResponse:
    """Reply without values."""
    return value_pb2.PredictResponse()


class Values(value_pb2_grpc.ValueServiceServicer):
    """Acknowledges every chunk; ``Predict`` is given."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict

    async def Predict(
        self, request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        return await self._predict(request, context)

    async def UpdateContext(
        self, request_iterator: AsyncIterator[value_pb2.UpdateContextRequest], context: Context
    ) -> AsyncIterator[value_pb2.UpdateContextResponse]:
        async for chunk in request_iterator:
            yield value_pb2.UpdateContextResponse(accepted=len(chunk.outcomes))


class Policies(policy_pb2_grpc.PolicyServiceServicer):
    """Exports two pieces, and counts the bytes of an import."""

    async def ExportContext(
        self, request: policy_pb2.ExportContextRequest, context: Context
    ) -> AsyncIterator[policy_pb2.ExportContextResponse]:
        for _ in range(2):
            yield policy_pb2.ExportContextResponse(data=b"piece")

    async def ImportContext(
        self, request_iterator: AsyncIterator[policy_pb2.ImportContextRequest], context: Context
    ) -> policy_pb2.ImportContextResponse:
        size = 0
        async for request in request_iterator:
            size += len(request.data)
        return policy_pb2.ImportContextResponse(accepted=size)


class Stubs:
    """A channel and its stubs.

    Attributes:
        channel: The channel.
        values: Stub of ``vzero.v1.ValueService``.
        policies: Stub of ``vzero.v1.PolicyService``.
        health: Stub of ``grpc.health.v1.Health``.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.values: Any = value_pb2_grpc.ValueServiceStub(channel)
        self.policies: Any = policy_pb2_grpc.PolicyServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)


@asynccontextmanager
async def serving(
    *interceptors: Interceptor, predict: Predict = predict_nothing
) -> AsyncIterator[Stubs]:
    """Serve behind interceptors, the outermost first, for as long as the context lasts."""
    server = grpc.aio.server(interceptors=[InterceptorChain(interceptors)])
    value_pb2_grpc.add_ValueServiceServicer_to_server(Values(predict), server)
    policy_pb2_grpc.add_PolicyServiceServicer_to_server(Policies(), server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Stubs(channel)
    finally:
        await server.stop(0)
