"""From a gRPC status, with the details that the server sent, to an exception of this package."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from vzero.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    VzeroError,
)

_DETAILS_HEADER = "grpc-status-details-bin"

_CLASS_BY_CODE: dict[grpc.StatusCode, type[VzeroError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}


def from_rpc_error(error: grpc.RpcError) -> VzeroError:
    """Return the exception for an error of a blocking or an asyncio call."""
    code = error.code()
    message = error.details() or code.name
    details = _details(error)
    info = details.get(error_details_pb2.ErrorInfo)
    reason = (info.reason or None) if info else None
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            bad_request = details.get(error_details_pb2.BadRequest)
            violations = [
                (violation.field, violation.description)
                for violation in (bad_request.field_violations if bad_request else ())
            ]
            return InvalidArgument(message, violations=violations, code=code, reason=reason)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            retry = details.get(error_details_pb2.RetryInfo)
            seconds = retry.retry_delay.ToTimedelta().total_seconds() if retry else None
            return Overloaded(message, retry_after=seconds, code=code, reason=reason)
        case grpc.StatusCode.INTERNAL:
            error_id = info.metadata.get("error_id") if info else None
            return Internal(message, error_id=error_id, code=code, reason=reason)
    return _CLASS_BY_CODE.get(code, VzeroError)(message, code=code, reason=reason)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise the gRPC errors of the block as a `VzeroError`."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def _details(error: grpc.RpcError) -> dict[type[Message], Any]:
    """Messages of ``google.rpc`` sent with the status, by type. Damaged ones are skipped."""
    details: dict[type[Message], Any] = {}
    types = (
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.ErrorInfo,
    )
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key != _DETAILS_HEADER or not isinstance(value, bytes):
            continue
        try:
            for packed in status_pb2.Status.FromString(value).details:
                for message_type in types:
                    if packed.Is(message_type.DESCRIPTOR):
                        details[message_type] = message_type.FromString(packed.value)
        except DecodeError:
            continue
    return details
