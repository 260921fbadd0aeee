"""Decoding and rules, on a gRPC server."""

import grpc
import pytest
from google.rpc import error_details_pb2

from tests.api.calls import detail
from tests.api.served import PREDICT, REQUEST, serving
from tests.outcomes import chunk, outcome, sums
from vzero.v1 import value_pb2
from vzero_server.api.call import Context
from vzero_server.api.errors import ErrorInterceptor, InvalidRequestError
from vzero_server.api.validation import RequestValidation, check, decode


def fields(error: grpc.aio.AioRpcError) -> list[str]:
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = detail(error, error_details_pb2.BadRequest)
    return [violation.field for violation in bad.field_violations]  # type: ignore[attr-defined]


async def test_a_servicer_receives_only_valid_messages() -> None:
    seen = []

    async def predict(
        request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        seen.append(request)
        return value_pb2.PredictResponse()

    async with serving(ErrorInterceptor(), RequestValidation(), predict=predict) as stubs:
        await stubs.values.Predict(REQUEST)
        with pytest.raises(grpc.aio.AioRpcError) as invalid:
            await stubs.values.Predict(value_pb2.PredictRequest(policy_id="p"))
        with pytest.raises(grpc.aio.AioRpcError) as undecodable:
            await stubs.channel.unary_unary(PREDICT)(b"\x0a\x01p\x12\x01x\x12\x03a\xff\xfe")
    assert seen == [REQUEST]
    assert fields(invalid.value) == ["prompts"]
    assert fields(undecodable.value) == ["prompts[1]"]


async def test_each_request_of_a_stream_is_checked() -> None:
    chunks = [chunk("p", sums(2)), chunk("p", [outcome("1", reward=2.0)])]
    async with serving(ErrorInterceptor(), RequestValidation()) as stubs:
        call = stubs.values.UpdateContext(iter(chunks))
        assert (await call.read()).accepted == 2
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
    assert fields(error.value) == ["outcomes[0].reward"]


def test_an_error_names_a_limited_number_of_fields() -> None:
    request = chunk("p", [outcome("") for _ in range(100)])
    with pytest.raises(InvalidRequestError) as error:
        check(request)
    assert 1 < len(error.value.violations) < 100


def test_bytes_of_another_type_are_explained() -> None:
    with pytest.raises(InvalidRequestError, match=r"vzero\.v1\.PredictRequest: the bytes are not"):
        decode(value_pb2.PredictRequest, b"\x0a\x7f cut")
