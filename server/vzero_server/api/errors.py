"""Errors become gRPC statuses here, and only here."""

import logging
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
from google.rpc import error_details_pb2

from vzero_server.api.call import Call, Method, StreamHandler, UnaryHandler
from vzero_server.api.status import Status
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

logger = logging.getLogger(__name__)

DOMAIN = "vzero"
"""Domain of the reasons in ``google.rpc.ErrorInfo``."""

# Seconds after which a refused call may be sent again.
_STORAGE_RETRY = 5.0
_DEFAULT_RETRY = 1.0


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that breaks a rule: ``field`` is its path in the request."""

    field: str
    description: str


class InvalidRequestError(Exception):
    """A request breaks a rule.

    Attributes:
        violations: The fields that break rules.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = list(violations)

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidRequestError":
        """Return the error of one field."""
        return cls([Violation(field, description)])


class UnavailableError(Exception):
    """The server is starting or draining."""


class ConcurrencyLimitError(Exception):
    """The limit on concurrent calls of a kind is reached.

    Attributes:
        reason: The kind, for programs.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ErrorInterceptor:
    """Ends a call that raised an error with the status of the error."""

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """See ``Interceptor``."""

        async def guarded(request: Any, call: Call) -> Any:  # noqa: ANN401
            try:
                return await handler(request, call)
            except Exception as error:
                await _abort(call, error)

        return guarded

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """See ``Interceptor``."""

        async def guarded(request: Any, call: Call) -> AsyncGenerator[Any, None]:  # noqa: ANN401
            try:
                async with aclosing(handler(request, call)) as replies:
                    async for reply in replies:
                        yield reply
            except Exception as error:
                await _abort(call, error)

        return guarded


async def _abort(call: Call, error: Exception) -> NoReturn:
    # The servicer has ended the call already.
    if isinstance(error, grpc.aio.AbortError):
        raise error
    status = to_status(error)
    call.status = status
    await call.context.abort(status.code, status.message, status.metadata())


def to_status(error: Exception) -> Status:
    """Return the status of an error.

    An unexpected error becomes INTERNAL with an id. The log holds the traceback under that id.
    """
    code = grpc.StatusCode
    match error:
        case InvalidRequestError():
            return _invalid(error)
        case BundleError():
            return _invalid(InvalidRequestError.of("data", str(error)))
        case UnknownEstimatorError():
            return _invalid(InvalidRequestError.of("estimator", str(error)))
        case AllocationError():
            return _invalid(InvalidRequestError.of(error.field, error.description))
        case UnknownPolicyError():
            return _not_found(error, "UNKNOWN_POLICY", "vzero.v1.Policy", error.policy_id)
        case UnknownFleetError():
            return _not_found(error, "UNKNOWN_FLEET", "vzero.v1.Fleet", error.name)
        case EstimatorNotLoadedError():
            return Status(code.FAILED_PRECONDITION, str(error), (_info("ESTIMATOR_NOT_LOADED"),))
        case OverloadedError():
            return _exhausted(str(error), "QUEUE_FULL", error.retry_after)
        case DeviceMemoryError():
            message = f"the device is out of memory: {error}"
            return _exhausted(message, "DEVICE_MEMORY_FULL", _DEFAULT_RETRY)
        case StorageFullError():
            return _exhausted(str(error), "STORAGE_FULL", _STORAGE_RETRY)
        case ConcurrencyLimitError():
            return _exhausted(str(error), error.reason, _DEFAULT_RETRY)
        case UnavailableError():
            details = (_info("NOT_SERVING"),)
            return Status(code.UNAVAILABLE, str(error), details, _DEFAULT_RETRY)
        case TimeoutError():
            return Status(code.DEADLINE_EXCEEDED, "the deadline passed before the reply was ready")
    error_id = uuid.uuid4().hex
    logger.error("internal error %s", error_id, exc_info=error)
    return Status(
        code.INTERNAL,
        f"internal error {error_id}; the log of the server has the details",
        (_info("INTERNAL", error_id=error_id),),
    )


def _invalid(error: InvalidRequestError) -> Status:
    violations = [
        error_details_pb2.BadRequest.FieldViolation(
            field=violation.field, description=violation.description
        )
        for violation in error.violations
    ]
    details = (error_details_pb2.BadRequest(field_violations=violations),)
    return Status(grpc.StatusCode.INVALID_ARGUMENT, str(error), details)


def _not_found(error: Exception, reason: str, resource_type: str, name: str) -> Status:
    resource = error_details_pb2.ResourceInfo(resource_type=resource_type, resource_name=name)
    return Status(grpc.StatusCode.NOT_FOUND, str(error), (_info(reason), resource))


def _exhausted(message: str, reason: str, retry_after: float) -> Status:
    return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, message, (_info(reason),), retry_after)


def _info(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
