"""gRPC statuses with details that a program can read."""

from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True, slots=True)
class Status:
    """The status that ends a call.

    Attributes:
        code: The code.
        message: What went wrong.
        details: Messages of ``google.rpc`` that say it to programs.
        retry_after: Seconds after which a retry may succeed; None if a retry does not help.
    """

    code: grpc.StatusCode
    message: str
    details: tuple[Message, ...] = ()
    retry_after: float | None = None

    @property
    def reason(self) -> str | None:
        """Reason of its ``ErrorInfo``, if it has one."""
        for detail in self.details:
            if isinstance(detail, error_details_pb2.ErrorInfo):
                return str(detail.reason)
        return None

    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the trailing metadata that carries the details."""
        details = list(self.details)
        pushback: tuple[tuple[str, str | bytes], ...] = ()
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
            # The retries that gRPC itself makes follow this entry.
            pushback = (("grpc-retry-pushback-ms", str(int(self.retry_after * 1000))),)
        packed = []
        for detail in details:
            packed.append(any_pb2.Any())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        return (("grpc-status-details-bin", status.SerializeToString()), *pushback)
