"""What can go wrong: one small tree of exceptions.

Every exception of this package is a `VzeroError`, so ``except VzeroError`` is enough for a
caller who only wants to know that a call failed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"


class VzeroError(Exception):
    """Base of all errors of this package.

    Attributes:
        code: gRPC status of the failed call; None when nothing was sent.
        reason: machine-readable cause named by the server, such as ``STORAGE_FULL``; else None.
    """

    def __init__(
        self, message: str, *, code: grpc.StatusCode | None = None, reason: str | None = None
    ) -> None:
        """Describe the error.

        Args:
            message: what happened, for a human.
            code: gRPC status of the failed call.
            reason: machine-readable cause named by the server.
        """
        super().__init__(message)
        self.code = code
        self.reason = reason


class InvalidArgument(VzeroError, ValueError):
    """An argument breaks a rule. Found before sending (``code`` is None) or by the server.

    Attributes:
        violations: pairs of a field and what is wrong with it, such as
            ``("rewards[3]", "must be in [0, 1], not nan")``.
    """

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[tuple[str, str]] = (),
        code: grpc.StatusCode | None = None,
        reason: str | None = None,
    ) -> None:
        """Describe the error; see the attributes."""
        super().__init__(message, code=code, reason=reason)
        self.violations = list(violations)

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidArgument":
        """Build the error of a single field, found before sending."""
        return cls(f"{field} {description}", violations=[(field, description)])


class NotFound(VzeroError):
    """The policy is unknown: no outcome of it was ever stored."""


class FailedPrecondition(VzeroError):
    """The server cannot do this as it is, such as use an estimator it has not loaded."""


class Overloaded(VzeroError):
    """The server has no room now: its queue or its storage is full.

    Attributes:
        retry_after: seconds to wait before trying again; None when waiting does not help.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: grpc.StatusCode | None = None,
        reason: str | None = None,
    ) -> None:
        """Describe the error; see the attributes."""
        super().__init__(message, code=code, reason=reason)
        self.retry_after = retry_after


class DeadlineExceeded(VzeroError):
    """The answer did not come within the timeout."""


class Unavailable(VzeroError):
    """No server answers at the address, or it is shutting down."""


class Unauthenticated(VzeroError):
    """The token is missing or unknown."""


class PermissionDenied(VzeroError):
    """The token does not allow this call."""


class Internal(VzeroError):
    """The server met an unexpected error.

    Attributes:
        error_id: finds the error in the server's log; None when the connection broke instead.
    """

    def __init__(
        self,
        message: str,
        *,
        error_id: str | None = None,
        code: grpc.StatusCode | None = None,
        reason: str | None = None,
    ) -> None:
        """Describe the error; see the attributes."""
        super().__init__(message, code=code, reason=reason)
        self.error_id = error_id


class Undelivered(VzeroError):
    """A stream could not deliver all of its outcomes in time.

    Attributes:
        outcomes: how many are not acknowledged. Some of them may be stored nevertheless.
        spooled: folder that holds them all for the next stream; None when some are in memory only.
    """

    def __init__(self, outcomes: int, spooled: Path | None, cause: Exception | None) -> None:
        """Describe what is left; see the attributes.

        Args:
            outcomes: how many are not acknowledged.
            spooled: folder that holds them.
            cause: last error of the connection.
        """
        kept = f", kept in {spooled}" if spooled else ""
        because = f" ({cause})" if cause else ""
        code = cause.code if isinstance(cause, VzeroError) else None
        super().__init__(f"{outcomes} outcomes were not delivered{kept}{because}", code=code)
        self.outcomes = outcomes
        self.spooled = spooled


class SpoolError(VzeroError):
    """The spool folder cannot be used: another process has it, or it cannot be written."""


class SpoolFull(SpoolError):
    """The spool folder holds as many bytes as it may."""


_BY_CODE: dict[grpc.StatusCode, type[VzeroError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}


def from_rpc_error(error: grpc.RpcError) -> VzeroError:
    """Translate an error of gRPC, blocking or asyncio, with the details the server sent."""
    code = error.code()
    message = error.details() or code.name
    details = _details(error)
    info = details.get(error_details_pb2.ErrorInfo)
    reason = (info.reason or None) if info else None
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        bad = details.get(error_details_pb2.BadRequest)
        pairs = [(item.field, item.description) for item in bad.field_violations] if bad else []
        return InvalidArgument(message, violations=pairs, code=code, reason=reason)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        retry = details.get(error_details_pb2.RetryInfo)
        seconds = retry.retry_delay.ToTimedelta().total_seconds() if retry else None
        return Overloaded(message, retry_after=seconds, code=code, reason=reason)
    if code is grpc.StatusCode.INTERNAL:
        error_id = info.metadata.get("error_id") if info else None
        return Internal(message, error_id=error_id, code=code, reason=reason)
    return _BY_CODE.get(code, VzeroError)(message, code=code, reason=reason)


@contextmanager
def translated() -> Iterator[None]:
    """Raise the errors of gRPC inside the block as a `VzeroError`."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


def _details(error: grpc.RpcError) -> dict[type[Message], Any]:
    """Messages of ``google.rpc`` sent along with the status, by type. Damaged ones are skipped."""
    found: dict[type[Message], Any] = {}
    known = (
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
        error_details_pb2.ErrorInfo,
    )
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            for packed in status_pb2.Status.FromString(value).details:
                for kind in known:
                    if packed.Is(kind.DESCRIPTOR):
                        found[kind] = kind.FromString(packed.value)
        except DecodeError:
            continue
    return found
