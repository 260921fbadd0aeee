"""What is written down of every call: its time, how it ended, its span."""

import asyncio
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2

from vzero_server.api.errors import Context, Status
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import Traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_REFUSALS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


class ObservedCall:
    """Surrounds the serving of one call.

    Streams are counted, not timed: they last as long as their caller likes.
    """

    def __init__(
        self,
        method: str,
        context: Context,
        metrics: Metrics,
        traces: Traces | None,
        *,
        stream: bool,
    ) -> None:
        """Take note of a call.

        Args:
            method: ``/package.Service/Method``.
            context: Of the call.
            metrics: Where it is counted.
            traces: Makes its span, if spans are wanted.
            stream: Whether its caller or we send any number of messages.
        """
        self._method = method
        self._context = context
        self._metrics = metrics
        self._stream = stream
        self._code: grpc.StatusCode | None = None
        self._tracing: AbstractContextManager[Span] | None = None
        self._span: Span | None = None
        if traces is not None:
            self._tracing = traces.call(method, _pairs(context))
        self._began = 0.0

    def __enter__(self) -> "ObservedCall":
        self._began = time.monotonic()
        if self._tracing is not None:
            self._span = self._tracing.__enter__()
        return self

    def failed(self, status: Status) -> None:
        """Take note of the status the call ends with."""
        self._code = status.code
        if status.code in _REFUSALS:
            for detail in status.details:
                if isinstance(detail, error_details_pb2.ErrorInfo):
                    self._metrics.rejects.labels(detail.reason).inc()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        code = self._ending(error).name
        name = self._method.rpartition("/")[2]
        if self._stream:
            self._metrics.streams.labels(name, code).inc()
        else:
            seconds = time.monotonic() - self._began
            self._metrics.request_seconds.labels(name, code).observe(seconds)
        if self._tracing is not None and self._span is not None:
            self._span.set_attribute("rpc.grpc.status_code", grpc.StatusCode[code].value[0])
            # Not told of the error: it would show a call that was answered as one that broke.
            self._tracing.__exit__(None, None, None)

    def _ending(self, error: BaseException | None) -> grpc.StatusCode:
        if self._code is not None:
            return self._code
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            left = self._context.time_remaining()
            late = left is not None and left <= 0.0
            return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        return grpc.StatusCode.OK if error is None else grpc.StatusCode.UNKNOWN


def _pairs(context: Context) -> tuple[tuple[str, Any], ...]:
    return tuple(context.invocation_metadata() or ())
