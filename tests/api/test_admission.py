"""The serving gate and the limits on concurrent calls, on a gRPC server."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from tests.api.calls import detail
from tests.api.served import REQUEST, serving
from tests.outcomes import chunk, sums
from tests.waiting import until
from vzero.v1 import value_pb2
from vzero_server.api.admission import ConcurrencyLimiter, ConcurrencyLimits, ServingGate
from vzero_server.api.call import Context
from vzero_server.api.errors import ConcurrencyLimitError, ErrorInterceptor
from vzero_server.api.validation import RequestValidation

SERVICES = ("vzero.v1.ValueService", "vzero.v1.PolicyService")
UPDATE = chunk("p", sums(2))


def limits(size: int) -> tuple[ConcurrencyLimits, list[ConcurrencyLimiter]]:
    """Limits of the same size, and their limiters: calls, streams, auxiliary."""
    limiters = [
        ConcurrencyLimiter(size, kind=kind, reason=f"TOO_MANY_{kind.upper()}")
        for kind in ("calls", "streams", "probes")
    ]
    calls, streams, auxiliary = limiters
    built = ConcurrencyLimits(SERVICES, calls=calls, streams=streams, auxiliary=auxiliary)
    return built, limiters


class Held:
    """A ``Predict`` that replies when it is released."""

    def __init__(self) -> None:
        self.started = asyncio.Semaphore(0)
        self.release = asyncio.Event()

    async def predict(
        self, request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        self.started.release()
        await self.release.wait()
        return value_pb2.PredictResponse()


async def test_the_gate_refuses_until_the_server_serves_and_when_it_drains() -> None:
    gate = ServingGate(SERVICES)
    async with serving(ErrorInterceptor(), gate, RequestValidation()) as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as starting:
            await stubs.values.Predict(REQUEST)
        gate.open()
        await stubs.values.Predict(REQUEST)
        assert len([reply async for reply in stubs.values.UpdateContext(iter([UPDATE]))]) == 1
        gate.drain()
        with pytest.raises(grpc.aio.AioRpcError) as draining:
            await stubs.values.Predict(REQUEST)
        with pytest.raises(grpc.aio.AioRpcError) as stream:
            await stubs.values.UpdateContext(iter([UPDATE])).read()
    assert gate.draining.is_set()
    assert starting.value.details() == "the server is starting"
    assert draining.value.details() == "the server is draining"
    for error in (starting, draining, stream):
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        info = detail(error.value, error_details_pb2.ErrorInfo)
        assert info.reason == "NOT_SERVING"  # type: ignore[attr-defined]


async def test_the_gate_admits_health_at_any_time() -> None:
    gate = ServingGate(SERVICES)
    request = health_pb2.HealthCheckRequest()
    async with serving(ErrorInterceptor(), gate, RequestValidation()) as stubs:
        await stubs.health.Check(request)
        gate.drain()
        await stubs.health.Check(request)
        watch = stubs.health.Watch(request)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_a_call_above_the_limit_is_rejected_and_the_slot_is_released() -> None:
    built, (calls, *_) = limits(2)
    held = Held()
    async with serving(
        ErrorInterceptor(), built, RequestValidation(), predict=held.predict
    ) as stubs:
        running = [stubs.values.Predict(REQUEST) for _ in range(2)]
        for _ in running:
            await held.started.acquire()
        assert calls.running == 2
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stubs.values.Predict(REQUEST)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        info = detail(error.value, error_details_pb2.ErrorInfo)
        assert info.reason == "TOO_MANY_CALLS"  # type: ignore[attr-defined]
        # One call is cancelled.
        running.pop().cancel()
        await until(lambda: calls.running == 1)
        running.append(stubs.values.Predict(REQUEST))
        await held.started.acquire()
        held.release.set()
        await asyncio.gather(*running)
    assert calls.running == 0


async def test_streams_calls_and_probes_have_separate_limits() -> None:
    built, limiters = limits(1)
    calls, streams, _ = limiters
    release = asyncio.Event()

    async def idle() -> AsyncIterator[value_pb2.UpdateContextRequest]:
        yield UPDATE
        await release.wait()

    async with serving(ErrorInterceptor(), built, RequestValidation()) as stubs:
        stream = stubs.values.UpdateContext(idle())
        assert (await stream.read()).accepted == 2
        watch = stubs.health.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        assert [limiter.running for limiter in limiters] == [0, 1, 1]
        await stubs.values.Predict(REQUEST)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stubs.values.UpdateContext(iter([UPDATE])).read()
        info = detail(error.value, error_details_pb2.ErrorInfo)
        assert info.reason == "TOO_MANY_STREAMS"  # type: ignore[attr-defined]
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stubs.health.Check(health_pb2.HealthCheckRequest())
        info = detail(error.value, error_details_pb2.ErrorInfo)
        assert info.reason == "TOO_MANY_PROBES"  # type: ignore[attr-defined]
        release.set()
        assert await stream.read() is grpc.aio.EOF
        assert (calls.running, streams.running) == (0, 0)


def test_the_slot_of_a_failed_call_is_released() -> None:
    limiter = ConcurrencyLimiter(1, kind="calls", reason="TOO_MANY_CALLS")
    with pytest.raises(KeyError), limiter:
        raise KeyError
    with limiter, pytest.raises(ConcurrencyLimitError, match="already serves 1 calls"), limiter:
        pass
    assert limiter.running == 0
