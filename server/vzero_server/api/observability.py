"""Metrics and spans of calls."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from vzero_server.api.call import Call, Method, StreamHandler, UnaryHandler
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import Traces

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_REFUSALS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


class ObservabilityInterceptor:
    """Measures and counts calls by method and code, and makes their spans.

    Streams are counted and not timed: they last as long as the caller wants.
    """

    def __init__(self, metrics: Metrics, traces: Traces | None = None) -> None:
        """Set where calls are recorded.

        Args:
            metrics: Counts the calls.
            traces: Makes their spans; None makes none.
        """
        self._metrics = metrics
        self._traces = traces

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """See ``Interceptor``."""

        async def observed(request: Any, call: Call) -> Any:  # noqa: ANN401
            with _Observation(call, self._metrics, self._traces):
                return await handler(request, call)

        return observed

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """See ``Interceptor``."""

        async def observed(request: Any, call: Call) -> AsyncGenerator[Any, None]:  # noqa: ANN401
            with _Observation(call, self._metrics, self._traces):
                async with aclosing(handler(request, call)) as replies:
                    async for reply in replies:
                        yield reply

        return observed


class _Observation:
    """Surrounds the serving of one call."""

    __slots__ = ("_call", "_metrics", "_span", "_started", "_tracing")

    def __init__(self, call: Call, metrics: Metrics, traces: Traces | None) -> None:
        self._call = call
        self._metrics = metrics
        self._tracing: AbstractContextManager[Span] | None = None
        self._span: Span | None = None
        if traces is not None:
            metadata = tuple(call.context.invocation_metadata() or ())
            self._tracing = traces.call(call.method.path, metadata)

    def __enter__(self) -> None:
        self._started = time.monotonic()
        if self._tracing is not None:
            self._span = self._tracing.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        method, status = self._call.method, self._call.status
        code = self._code(error)
        if method.is_stream:
            self._metrics.streams.labels(method.name, code.name).inc()
        else:
            seconds = time.monotonic() - self._started
            self._metrics.request_seconds.labels(method.name, code.name).observe(seconds)
        if status is not None and status.code in _REFUSALS and status.reason is not None:
            self._metrics.rejects.labels(status.reason).inc()
        if self._tracing is not None and self._span is not None:
            self._span.set_attribute("rpc.grpc.status_code", code.value[0])
            # The error is not passed on: the span would record an answered call as failed.
            self._tracing.__exit__(None, None, None)

    def _code(self, error: BaseException | None) -> grpc.StatusCode:
        if self._call.status is not None:
            return self._call.status.code
        if isinstance(error, grpc.aio.AbortError):
            code: grpc.StatusCode = self._call.context.code()
            return code
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            remaining = self._call.context.time_remaining()
            late = remaining is not None and remaining <= 0.0
            return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
        return grpc.StatusCode.OK if error is None else grpc.StatusCode.UNKNOWN
