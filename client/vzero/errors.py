"""Exceptions of the client. All are subclasses of `VzeroError`."""

from collections.abc import Sequence
from pathlib import Path

import grpc


class VzeroError(Exception):
    """Base class of all exceptions of this package.

    Attributes:
        code: gRPC status of the failed call; None if nothing was sent.
        reason: machine-readable cause that the server gave, such as ``STORAGE_FULL``, or None.
    """

    def __init__(
        self, message: str, *, code: grpc.StatusCode | None = None, reason: str | None = None
    ) -> None:
        """Describe the error.

        Args:
            message: text for a person.
            code: gRPC status of the failed call.
            reason: machine-readable cause that the server gave.
        """
        super().__init__(message)
        self.code = code
        self.reason = reason


class InvalidArgument(VzeroError, ValueError):
    """An argument breaks a rule. The client finds it (``code`` is None) or the server.

    Attributes:
        violations: pairs of a field and a description of the problem, such as
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
        """Return the error of one field, found by the client."""
        return cls(f"{field} {description}", violations=[(field, description)])


class NotFound(VzeroError):
    """The server does not know the policy or fleet."""


class FailedPrecondition(VzeroError):
    """The state of the server does not allow the call, such as an estimator that is not loaded."""


class Overloaded(VzeroError):
    """The queue or the storage of the server is full.

    Attributes:
        retry_after: seconds to wait before a retry; None if a retry does not help.
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
    """The server did not reply within the timeout."""


class Unavailable(VzeroError):
    """No server replies at the address, or the server is shutting down."""


class Unauthenticated(VzeroError):
    """The token is missing or invalid."""


class PermissionDenied(VzeroError):
    """The token does not allow this call."""


class Internal(VzeroError):
    """The server failed unexpectedly.

    Attributes:
        error_id: identifies the error in the log of the server; None if the connection failed.
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
        outcomes: number of outcomes without acknowledgement. Some of them may be stored.
        spooled: folder that keeps all of them for the next stream; None if it does not.
    """

    def __init__(self, outcomes: int, spooled: Path | None, cause: Exception | None) -> None:
        """Describe the outcomes that are left.

        Args:
            outcomes: number of outcomes without acknowledgement.
            spooled: folder that keeps them, if it keeps all.
            cause: last error of the connection.
        """
        kept = f", kept in {spooled}" if spooled else ""
        because = f" ({cause})" if cause else ""
        code = cause.code if isinstance(cause, VzeroError) else None
        super().__init__(f"{outcomes} outcomes were not delivered{kept}{because}", code=code)
        self.outcomes = outcomes
        self.spooled = spooled


class SpoolError(VzeroError):
    """The spool folder is in use by another stream, or cannot be written."""


class SpoolFull(SpoolError):
    """The spool folder has reached its size limit."""
