"""Spans of calls, for OpenTelemetry; nothing is imported or done unless somebody wants them."""

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


# The call that the running code serves, if its spans are wanted.
_call: ContextVar[_Call | None] = ContextVar("vzero_call", default=None)


def wanted() -> bool:
    """Whether the running code serves a call whose spans are wanted."""
    call = _call.get()
    return call is not None and call.span.is_recording()


def record(name: str, began: float, ended: float, **attributes: str | int) -> None:
    """Make a span of what a call waited for, under the span of the call.

    Costs next to nothing outside a traced call.

    Args:
        name: Of the span.
        began: On the monotonic clock, in s.
        ended: Likewise.
        attributes: What else is known of it.
    """
    call = _call.get()
    if call is None or not wanted():
        return
    from opentelemetry.trace import set_span_in_context

    # Spans are in wall time, and are made when it is known how long they took.
    origin = time.time_ns() - time.monotonic_ns()
    span = call.tracer.start_span(
        name,
        set_span_in_context(call.span),
        start_time=origin + int(began * 1e9),
        attributes=attributes,
    )
    span.end(origin + int(ended * 1e9))


@contextmanager
def own_trace(name: str) -> Iterator[None]:
    """Begin a trace for one message of a stream, linked to that of the stream.

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
    """Makes the spans of calls and sends them off."""

    def __init__(self, provider: "TracerProvider") -> None:
        """Make spans with a provider, which is shut down by ``close``."""
        self._provider = provider
        self._tracer = provider.get_tracer("vzero")

    @classmethod
    def to(cls, endpoint: str) -> "Traces | None":
        """Send spans to an OTLP collector; None, and a warning, without the extra ``otel``.

        Sampling, the service's name and further attributes are read from the standard
        ``OTEL_*`` variables by OpenTelemetry itself.

        Args:
            endpoint: URL of the collector's gRPC receiver; ``http://`` goes unencrypted.
        """
        try:
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            logger.warning("no traces: vzero[otel] is not installed")
            return None
        # The variables win over what is given here.
        resource = Resource({"service.name": "vzero"}).merge(Resource.create())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
        return cls(provider)

    def close(self) -> None:
        """Send what is left; blocks for as long as the exporter's time limit at most."""
        self._provider.shutdown()

    @contextmanager
    def call(self, method: str, metadata: Iterable[tuple[str, Any]]) -> Iterator["Span"]:
        """The span of one call, for the time it runs.

        Args:
            method: ``/package.Service/Method``.
            metadata: Of the call; a W3C ``traceparent`` among it makes the span its child.
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
