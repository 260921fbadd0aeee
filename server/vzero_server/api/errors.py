"""Errors as gRPC statuses with details a program can read."""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

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

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

DOMAIN = "vzero"
# Wait before trying to store again on a full disk, in seconds.
_STORAGE_RETRY = 5.0
# Wait before calling again when as many calls are served as may be, in seconds.
_ROOM_RETRY = 1.0


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field: ``field`` is its path in the request."""

    field: str
    description: str


class InvalidRequestError(Exception):
    """A request that cannot be served as it is."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = list(violations)


class UnavailableError(Exception):
    """The server is starting or draining."""


class NoRoomError(Exception):
    """As many calls of a kind are served as may be.

    Attributes:
        reason: Which kind, for programs.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Status:
    """A gRPC status: code, message, details and, if waiting helps, for how many seconds."""

    code: grpc.StatusCode
    message: str
    details: tuple[Message, ...] = ()
    retry_after: float | None = None

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Trailing metadata that carries the details."""
        details = list(self.details)
        pushback: tuple[tuple[str, str | bytes], ...] = ()
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
            # What gRPC's own retries go by.
            pushback = (("grpc-retry-pushback-ms", str(int(self.retry_after * 1000))),)
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        return (("grpc-status-details-bin", status.SerializeToString()), *pushback)


def _reason(reason: str, **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def to_status(error: Exception) -> Status:
    """The status that tells a caller of an error.

    An error nobody expected becomes INTERNAL with an id; the log has the id and the rest.
    """
    code = grpc.StatusCode
    match error:
        case InvalidRequestError():
            bad = error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.field, description=violation.description
                    )
                    for violation in error.violations
                ]
            )
            return Status(code.INVALID_ARGUMENT, str(error), (bad,))
        case BundleError():
            return to_status(InvalidRequestError([Violation("data", str(error))]))
        case UnknownPolicyError():
            info = error_details_pb2.ResourceInfo(
                resource_type="vzero.v1.Policy", resource_name=error.policy_id
            )
            return Status(code.NOT_FOUND, str(error), (_reason("UNKNOWN_POLICY"), info))
        case UnknownFleetError():
            info = error_details_pb2.ResourceInfo(
                resource_type="vzero.v1.Fleet", resource_name=error.name
            )
            return Status(code.NOT_FOUND, str(error), (_reason("UNKNOWN_FLEET"), info))
        case UnknownEstimatorError():
            return to_status(InvalidRequestError([Violation("estimator", str(error))]))
        case EstimatorNotLoadedError():
            return Status(code.FAILED_PRECONDITION, str(error), (_reason("ESTIMATOR_NOT_LOADED"),))
        case OverloadedError():
            return Status(
                code.RESOURCE_EXHAUSTED, str(error), (_reason("QUEUE_FULL"),), error.retry_after
            )
        case DeviceMemoryError():
            return Status(
                code.RESOURCE_EXHAUSTED,
                f"the device is out of memory: {error}",
                (_reason("DEVICE_MEMORY_FULL"),),
                _ROOM_RETRY,
            )
        case StorageFullError():
            return Status(
                code.RESOURCE_EXHAUSTED, str(error), (_reason("STORAGE_FULL"),), _STORAGE_RETRY
            )
        case NoRoomError():
            return Status(
                code.RESOURCE_EXHAUSTED, str(error), (_reason(error.reason),), _ROOM_RETRY
            )
        case UnavailableError():
            return Status(code.UNAVAILABLE, str(error), (_reason("NOT_SERVING"),), 1.0)
        case TimeoutError():
            return Status(code.DEADLINE_EXCEEDED, "the deadline passed before the answer was ready")
    error_id = uuid.uuid4().hex
    logger.error("internal error %s", error_id, exc_info=error)
    return Status(
        code.INTERNAL,
        f"internal error {error_id}; the server's log has the details",
        (_reason("INTERNAL", error_id=error_id),),
    )
