"""Metrics of calls, on a gRPC server."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2

from tests.api.served import REQUEST, serving
from tests.outcomes import chunk, sums
from tests.waiting import until
from vzero.v1 import value_pb2
from vzero_server.api.call import Context
from vzero_server.api.errors import ErrorInterceptor
from vzero_server.api.observability import ObservabilityInterceptor
from vzero_server.api.validation import RequestValidation
from vzero_server.errors import OverloadedError, UnknownPolicyError
from vzero_server.observability.metrics import Metrics


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"vzero_{name}", labels) or 0.0


async def test_unary_calls_are_timed_by_method_and_code() -> None:
    async def predict(
        request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        if request.policy_id == "unknown":
            raise UnknownPolicyError("unknown")
        if request.policy_id == "busy":
            raise OverloadedError(1.0)
        return value_pb2.PredictResponse()

    metrics = Metrics()
    async with serving(
        ObservabilityInterceptor(metrics), ErrorInterceptor(), RequestValidation(), predict=predict
    ) as stubs:
        for policy_id in ("known", "known", "unknown", "busy"):
            request = value_pb2.PredictRequest(policy_id=policy_id, prompts=["x"])
            call = stubs.values.Predict(request)
            await asyncio.wait([asyncio.ensure_future(call.code())])
        with pytest.raises(grpc.aio.AioRpcError):
            await stubs.health.Check(health_pb2.HealthCheckRequest(service="else"))
    counted = {
        (method, code): sample(metrics, "request_seconds_count", method=method, code=code)
        for method, code in (
            ("Predict", "OK"),
            ("Predict", "NOT_FOUND"),
            ("Predict", "RESOURCE_EXHAUSTED"),
            ("Check", "NOT_FOUND"),
        )
    }
    assert list(counted.values()) == [2, 1, 1, 1], counted
    assert sample(metrics, "rejects_total", reason="QUEUE_FULL") == 1


async def test_streams_are_counted_by_how_they_ended() -> None:
    metrics = Metrics()
    async with serving(
        ObservabilityInterceptor(metrics), ErrorInterceptor(), RequestValidation()
    ) as stubs:
        update = stubs.values.UpdateContext(iter([chunk("p", sums(2))]))
        assert [reply.accepted async for reply in update] == [2]
        invalid = stubs.values.UpdateContext(iter([chunk("", sums(2))]))
        with pytest.raises(grpc.aio.AioRpcError):
            await invalid.read()
    assert sample(metrics, "streams_total", method="UpdateContext", code="OK") == 1
    assert sample(metrics, "streams_total", method="UpdateContext", code="INVALID_ARGUMENT") == 1


@pytest.mark.parametrize("code", ["CANCELLED", "DEADLINE_EXCEEDED"])
async def test_a_cancelled_call_is_counted_with_its_reason(code: str) -> None:
    ended, started = asyncio.Event(), asyncio.Event()

    async def wait(
        request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    metrics = Metrics()
    async with serving(
        ObservabilityInterceptor(metrics), ErrorInterceptor(), RequestValidation(), predict=wait
    ) as stubs:
        call = stubs.values.Predict(REQUEST, timeout=60.0 if code == "CANCELLED" else 1.0)
        await started.wait()
        if code == "CANCELLED":
            call.cancel()
        await ended.wait()
        await until(
            lambda: sample(metrics, "request_seconds_count", method="Predict", code=code) == 1
        )
