"""The chain of interceptors on a gRPC server."""

from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.api.served import PREDICT, REQUEST, serving
from tests.outcomes import chunk, sums
from vzero.v1 import policy_pb2
from vzero_server.api.admission import ConcurrencyLimiter, ConcurrencyLimits, ServingGate
from vzero_server.api.call import Call, Method, StreamHandler, UnaryHandler
from vzero_server.api.chain import build_chain
from vzero_server.api.errors import ErrorInterceptor, UnavailableError
from vzero_server.api.validation import RequestValidation
from vzero_server.observability.metrics import Metrics


class Recorder:
    """Records the methods it wraps and the calls that pass it."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.wrapped: list[str] = []
        self._name = name
        self._calls = calls

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        self.wrapped.append(method.name)

        async def recorded(request: Any, call: Call) -> Any:
            self._calls.append(self._name)
            reply = await handler(request, call)
            self._calls.append(f"{self._name} done")
            return reply

        return recorded

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        self.wrapped.append(method.name)

        async def recorded(request: Any, call: Call) -> AsyncGenerator[Any, None]:
            self._calls.append(self._name)
            async for reply in handler(request, call):
                yield reply
            self._calls.append(f"{self._name} done")

        return recorded


class Authentication:
    """Rejects every call, like authentication without credentials."""

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        async def refused(request: Any, call: Call) -> Any:
            raise UnavailableError("no credentials")

        return refused

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        async def refused(request: Any, call: Call) -> AsyncGenerator[Any, None]:
            raise UnavailableError("no credentials")
            yield

        return refused


async def test_calls_of_every_kind_pass_the_interceptors_in_order() -> None:
    calls: list[str] = []
    outer, inner = Recorder("outer", calls), Recorder("inner", calls)
    order = ["outer", "inner", "inner done", "outer done"]
    async with serving(outer, inner, RequestValidation()) as stubs:
        await stubs.values.Predict(REQUEST)
        assert calls == order
        stream = stubs.values.UpdateContext(iter([chunk("p", sums(2)), chunk("p", sums(3))]))
        assert [reply.accepted async for reply in stream] == [2, 3]
        assert calls == order * 2
        export = stubs.policies.ExportContext(policy_pb2.ExportContextRequest(policy_id="p"))
        assert [reply.data async for reply in export] == [b"piece"] * 2
        assert calls == order * 3
        pieces = [policy_pb2.ImportContextRequest(data=b"12345")] * 2
        assert (await stubs.policies.ImportContext(iter(pieces))).accepted == 10
        assert calls == order * 4


async def test_a_servicer_that_writes_its_replies_is_served() -> None:
    calls: list[str] = []
    async with serving(Recorder("only", calls), RequestValidation()) as stubs:
        watch = stubs.health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert calls == ["only"]


async def test_a_method_is_wrapped_once_and_an_unknown_name_never() -> None:
    recorder = Recorder("only", [])
    async with serving(recorder, RequestValidation()) as stubs:
        for _ in range(3):
            await stubs.values.Predict(REQUEST)
        for number in range(3):
            made_up = stubs.channel.unary_unary(f"/vzero.v1.ValueService/MadeUp{number}")
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await made_up(b"")
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert recorder.wrapped == ["Predict"]


async def test_a_call_rejected_before_validation_is_not_decoded() -> None:
    async with serving(ErrorInterceptor(), Authentication(), RequestValidation()) as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stubs.channel.unary_unary(PREDICT)(b"no message of any type")
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error.value.details() == "no credentials"


def test_the_chain_of_the_server_has_one_place_for_each_job() -> None:
    services = ("vzero.v1.ValueService",)
    limiter = ConcurrencyLimiter(1, kind="calls", reason="TOO_MANY_CALLS")
    chain = build_chain(
        ServingGate(services),
        ConcurrencyLimits(services, calls=limiter, streams=limiter, auxiliary=limiter),
        default_timeout=1.0,
        metrics=Metrics(),
        traces=None,
    )
    assert [type(interceptor).__name__ for interceptor in chain.interceptors] == [
        "ObservabilityInterceptor",
        "ErrorInterceptor",
        "ServingGate",
        "ConcurrencyLimits",
        "DefaultDeadline",
        "RequestValidation",
    ]
