"""Errors become statuses with details, on a gRPC server."""

import logging

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from tests.api.calls import detail
from tests.api.served import REQUEST, serving
from vzero.v1 import value_pb2
from vzero_server.api.call import Context
from vzero_server.api.errors import (
    ConcurrencyLimitError,
    ErrorInterceptor,
    InvalidRequestError,
    UnavailableError,
)
from vzero_server.api.validation import RequestValidation
from vzero_server.decisions.constraints import AllocationError
from vzero_server.errors import (
    BundleError,
    DeviceMemoryError,
    EstimatorNotLoadedError,
    OverloadedError,
    StorageFullError,
    UnknownEstimatorError,
    UnknownFleetError,
    UnknownPolicyError,
)


async def raised(error: Exception) -> grpc.aio.AioRpcError:
    """The status that a caller gets for an error of a servicer."""

    async def fail(
        request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        raise error

    async with serving(ErrorInterceptor(), RequestValidation(), predict=fail) as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as seen:
            await stubs.values.Predict(REQUEST)
    return seen.value


def details(error: grpc.aio.AioRpcError, kind: type[Message]) -> Message:
    message = detail(error, kind)
    assert isinstance(message, Message)
    return message


@pytest.mark.parametrize(
    ("error", "field"),
    [
        (InvalidRequestError.of("prompts[3]", "must not be empty"), "prompts[3]"),
        (AllocationError("total", "is too small"), "total"),
        (BundleError("the bundle is truncated"), "data"),
        (UnknownEstimatorError("best", ["icl", "knn"]), "estimator"),
    ],
)
async def test_an_invalid_request_names_the_field(error: Exception, field: str) -> None:
    seen = await raised(error)
    assert seen.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = details(seen, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == [field]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "name"),
    [(UnknownPolicyError("p"), "vzero.v1.Policy"), (UnknownFleetError("f"), "vzero.v1.Fleet")],
)
async def test_an_unknown_name_is_not_found(error: Exception, name: str) -> None:
    seen = await raised(error)
    assert seen.code() is grpc.StatusCode.NOT_FOUND
    resource = details(seen, error_details_pb2.ResourceInfo)
    assert resource.resource_type == name  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("error", "reason", "seconds"),
    [
        (OverloadedError(2.5), "QUEUE_FULL", 2.5),
        (DeviceMemoryError("no space"), "DEVICE_MEMORY_FULL", 1.0),
        (StorageFullError("the disk is full"), "STORAGE_FULL", 5.0),
        (ConcurrencyLimitError("too many", "TOO_MANY_CALLS"), "TOO_MANY_CALLS", 1.0),
    ],
)
async def test_a_rejected_call_is_given_a_retry_delay(
    error: Exception, reason: str, seconds: float
) -> None:
    seen = await raised(error)
    assert seen.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(seen, error_details_pb2.ErrorInfo).reason == reason  # type: ignore[attr-defined]
    retry = details(seen, error_details_pb2.RetryInfo).retry_delay  # type: ignore[attr-defined]
    assert retry.ToTimedelta().total_seconds() == seconds
    pushback = dict(seen.trailing_metadata() or ())["grpc-retry-pushback-ms"]
    assert pushback == str(int(seconds * 1000))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EstimatorNotLoadedError("not loaded"), grpc.StatusCode.FAILED_PRECONDITION),
        (UnavailableError("the server is draining"), grpc.StatusCode.UNAVAILABLE),
        (TimeoutError(), grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_other_errors_have_their_codes(error: Exception, code: grpc.StatusCode) -> None:
    assert (await raised(error)).code() is code


async def test_an_unexpected_error_is_internal_with_an_id_that_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        seen = await raised(ZeroDivisionError("a secret of the server"))
    assert seen.code() is grpc.StatusCode.INTERNAL
    error_id = details(seen, error_details_pb2.ErrorInfo).metadata["error_id"]  # type: ignore[attr-defined]
    assert error_id in str(seen.details())
    assert "secret" not in str(seen.details())
    assert error_id in caplog.text
    assert "a secret of the server" in caplog.text


async def test_a_call_that_the_servicer_ended_keeps_its_status() -> None:
    async def abort(
        request: value_pb2.PredictRequest, context: Context
    ) -> value_pb2.PredictResponse:
        await context.abort(grpc.StatusCode.ABORTED, "by the servicer")
        raise AssertionError

    async with serving(ErrorInterceptor(), RequestValidation(), predict=abort) as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as seen:
            await stubs.values.Predict(REQUEST)
    assert (seen.value.code(), seen.value.details()) == (
        grpc.StatusCode.ABORTED,
        "by the servicer",
    )
