"""The default deadline, on a gRPC server."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.api.served import REQUEST, serving
from tests.outcomes import chunk, sums
from vzero.v1 import value_pb2
from vzero_server.api.call import Context
from vzero_server.api.deadline import DefaultDeadline
from vzero_server.api.errors import ErrorInterceptor
from vzero_server.api.validation import RequestValidation


async def never(request: value_pb2.PredictRequest, context: Context) -> value_pb2.PredictResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_call_without_a_deadline_ends_after_the_default() -> None:
    async with serving(
        ErrorInterceptor(), DefaultDeadline(0.05), RequestValidation(), predict=never
    ) as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stubs.values.Predict(REQUEST)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert error.value.details() == "the deadline passed before the reply was ready"


async def test_a_deadline_of_the_caller_replaces_the_default() -> None:
    async def slow(
        request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        # Many times the default.
        await asyncio.sleep(0.2)
        return value_pb2.PredictResponse()

    async with serving(
        ErrorInterceptor(), DefaultDeadline(0.01), RequestValidation(), predict=slow
    ) as stubs:
        await stubs.values.Predict(REQUEST, timeout=60.0)


async def test_streams_have_no_default_deadline() -> None:
    async def chunks() -> AsyncIterator[value_pb2.UpdateContextRequest]:
        for _ in range(2):
            await asyncio.sleep(0.05)
            yield chunk("p", sums(1))

    async with serving(ErrorInterceptor(), DefaultDeadline(0.01), RequestValidation()) as stubs:
        assert len([reply async for reply in stubs.values.UpdateContext(chunks())]) == 2
