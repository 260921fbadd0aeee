"""Exceptions made from a gRPC status and its details."""

from pathlib import Path

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from vzero import errors
from vzero._transport.status import from_rpc_error, translated_errors


class Failure(grpc.RpcError):
    """A finished call, as gRPC raises it."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        self._code = code
        self._message = message
        status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            status.details.append(packed)
        self.trailers: list[tuple[str, str | bytes]] = [
            ("x-other", "text"),
            ("grpc-status-details-bin", status.SerializeToString()),
        ]

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._message

    def trailing_metadata(self) -> list[tuple[str, str | bytes]]:  # type: ignore[override]
        return self.trailers


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgument),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.FailedPrecondition),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceeded),
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.UNAUTHENTICATED, errors.Unauthenticated),
        (grpc.StatusCode.PERMISSION_DENIED, errors.PermissionDenied),
        (grpc.StatusCode.INTERNAL, errors.Internal),
        (grpc.StatusCode.DATA_LOSS, errors.VzeroError),
    ],
)
def test_every_code_has_its_exception(code: grpc.StatusCode, kind: type[errors.VzeroError]) -> None:
    error = from_rpc_error(Failure(code, "what happened"))
    assert type(error) is kind
    assert error.code is code
    assert str(error) == "what happened"


def test_violations() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="outcomes[3].reward", description="must be <= 1")
    error = from_rpc_error(Failure(grpc.StatusCode.INVALID_ARGUMENT, "bad", bad))
    assert isinstance(error, errors.InvalidArgument)
    assert isinstance(error, ValueError)
    assert error.violations == [("outcomes[3].reward", "must be <= 1")]


def test_retry_after_and_reason() -> None:
    error = from_rpc_error(
        Failure(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "full",
            error_details_pb2.RetryInfo(retry_delay=Duration(nanos=250_000_000)),
            error_details_pb2.ErrorInfo(reason="QUEUE_FULL"),
        )
    )
    assert isinstance(error, errors.Overloaded)
    assert error.retry_after == 0.25
    assert error.reason == "QUEUE_FULL"


def test_full_storage_names_no_time() -> None:
    error = from_rpc_error(
        Failure(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "disk",
            error_details_pb2.ErrorInfo(reason="STORAGE_FULL"),
        )
    )
    assert isinstance(error, errors.Overloaded)
    assert error.retry_after is None
    assert error.reason == "STORAGE_FULL"


def test_internal_error_id() -> None:
    error = from_rpc_error(
        Failure(
            grpc.StatusCode.INTERNAL,
            "unexpected",
            error_details_pb2.ErrorInfo(metadata={"error_id": "abc"}),
        )
    )
    assert isinstance(error, errors.Internal)
    assert error.error_id == "abc"
    assert error.reason is None


@pytest.mark.parametrize("trailers", [None, [], [("grpc-status-details-bin", b"\xff\xff")]])
def test_missing_and_damaged_details_are_harmless(
    trailers: list[tuple[str, str | bytes]] | None,
) -> None:
    failure = Failure(grpc.StatusCode.INVALID_ARGUMENT, "bad")
    failure.trailers = trailers or []
    error = from_rpc_error(failure)
    assert isinstance(error, errors.InvalidArgument)
    assert error.violations == []


def test_translated_keeps_the_cause() -> None:
    with pytest.raises(errors.NotFound) as caught, translated_errors():
        raise Failure(grpc.StatusCode.NOT_FOUND, "who?")
    assert isinstance(caught.value.__cause__, Failure)


def test_the_error_for_undelivered_outcomes_states_number_and_folder() -> None:
    error = errors.Undelivered(12, Path("/spool"), errors.Unavailable("gone"))
    assert (error.outcomes, error.spooled) == (12, Path("/spool"))
    assert str(error) == "12 outcomes were not delivered, kept in /spool (gone)"
