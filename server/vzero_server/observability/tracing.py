"""Spans of calls, for OpenTelemetry. Without an endpoint nothing is imported or recorded."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Call:
    tracer: "Tracer"
    span: "Span"


# The call that the running code serves, if it is traced.
_call: ContextVar[_Call | None] = ContextVar("vzero_call", default=None)


def is_recording() -> bool:
    """Return whether the running code serves a call whose spans are recorded."""
    call = _call.get()
    return call is not None and call.span.is_recording()


def record(name: str, began: float, ended: float, **attributes: str | int) -> None:
    """Record a span under the span of the current call; does nothing outside a traced call.

    Args:
        name: Name of the span.
        began: Start on the monotonic clock, in s.
        ended: End on the monotonic clock, in s.
        attributes: Attributes of the span.
    """
    call = _call.get()
    if call is None or not is_recording():
        return
    from opentelemetry.trace import set_span_in_context

    # Spans are recorded after they end, and in wall time.
    origin = time.time_ns() - time.monotonic_ns()
    span = call.tracer.start_span(
        name,
        set_span_in_context(call.span),
        start_time=origin + int(began * 1e9),
        attributes=attributes,
    )
    span.end(origin + int(ended * 1e9))


@contextmanager
def message_trace(name: str) -> Iterator[None]:
    """Start a trace for one message of a stream, linked to the trace of the stream.

    A stream may last for days and carry millions of messages, more than a trace can hold.
    """
    call = _call.get()
    if call is None:
        yield
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Link

    links = [Link(call.span.get_span_context())]
    span = call.tracer.start_span(name, Context(), links=links)
    token = _call.set(_Call(call.tracer, span))
    try:
        yield
    finally:
        _call.reset(token)
        span.end()


class Traces:
    """Makes spans of calls and exports them."""

    def __init__(self, provider: "TracerProvider") -> None:
        """Make spans with a provider. ``close`` shuts it down."""
        self._provider = provider
        self._tracer = provider.get_tracer("vzero")

    @classmethod
    def to(cls, endpoint: str) -> "Traces | None":
        """Return traces that are sent to an OTLP collector.

        Without the extra ``otel`` it logs a warning and returns None. OpenTelemetry itself reads
        sampling, the service name and further attributes from the ``OTEL_*`` variables.

        Args:
            endpoint: URL of the collector's gRPC receiver; ``http://`` is not encrypted.
        """
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            logger.warning("no traces: vzero[otel] is not installed")
            return None
        # The variables take precedence over this name.
        resource = Resource({"service.name": "vzero"}).merge(Resource.create())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        return cls(provider)

    def close(self) -> None:
        """Send the remaining spans; blocks for at most the time limit of the exporter."""
        self._provider.shutdown()

    @contextmanager
    def call(self, method: str, metadata: Iterable[tuple[str, Any]]) -> Iterator["Span"]:
        """Record the span of one call for as long as the context lasts.

        Args:
            method: ``/package.Service/Method``.
            metadata: Metadata of the call; a W3C ``traceparent`` becomes the parent of the span.
        """
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        service, _, name = method.lstrip("/").partition("/")
        span = self._tracer.start_span(
            method.lstrip("/"),
            TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        token = _call.set(_Call(self._tracer, span))
        try:
            yield span
        finally:
            _call.reset(token)
            span.end()
