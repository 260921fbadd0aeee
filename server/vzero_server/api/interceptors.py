"""What happens around every call: decoding, validation, deadlines, errors."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from vzero_server.api.admission import ConcurrencyLimiter
from vzero_server.api.errors import Context, InvalidRequestError, UnavailableError, to_status
from vzero_server.api.observed import ObservedCall
from vzero_server.api.validation import check, explain_undecodable
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import Traces

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


class Gate:
    """Whether calls are let in: closed until the model is loaded and while draining."""

    def __init__(self) -> None:
        self.closed_because: str | None = "the server is starting"
        self.draining = asyncio.Event()

    def open(self) -> None:
        """Let calls in."""
        self.closed_because = None

    def drain(self) -> None:
        """Let no further call in, and ask streams to come to an end."""
        self.closed_because = "the server is draining"
        self.draining.set()


class Edge(grpc.aio.ServerInterceptor):
    """Stands between gRPC and the servicers of ``vzero.v1``.

    A servicer sees only messages that decode and keep the rules of their proto file, and
    may raise any error of the domain; the caller sees the status made of it. A call
    without a deadline gets the default one; streams have none. Unary calls and streams
    have rooms of their own, so that streams on which nothing happens keep no call out.
    """

    def __init__(
        self,
        gate: Gate,
        *,
        default_timeout: float,
        calls: ConcurrencyLimiter,
        streams: ConcurrencyLimiter,
        metrics: Metrics,
        traces: Traces | None,
    ) -> None:
        """Set the limits.

        Args:
            gate: Whether calls are let in.
            default_timeout: Deadline of a unary call that sets none, in s.
            calls: Where unary calls are served.
            streams: Where streams are served.
            metrics: Where all of them are counted.
            traces: Makes their spans, if spans are wanted.
        """
        self._gate = gate
        self._default_timeout = default_timeout
        self._calls = calls
        self._streams = streams
        self._metrics = metrics
        self._traces = traces
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Wrap the handler of a call, once per method."""
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            # Names that are no method are not remembered: anybody can make them up.
            if handler is None or not method.startswith("/vzero."):
                return handler
            self._wrapped[method] = self._wrap(method, handler)
        return self._wrapped[method]

    def _wrap(self, method: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> Handler:
        decode = _deferred(handler.request_deserializer)
        encode = handler.response_serializer
        if handler.stream_stream:
            return grpc.stream_stream_rpc_method_handler(
                self._streaming(method, handler.stream_stream, _each), decode, encode
            )
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(
                self._single(method, handler.stream_unary, _each, stream=True), decode, encode
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method, handler.unary_stream, _one), decode, encode
            )
        return grpc.unary_unary_rpc_method_handler(
            self._single(method, handler.unary_unary, _one, stream=False), decode, encode
        )

    def _single(
        self,
        method: str,
        serve: Any,  # noqa: ANN401
        admit: Callable[[Any], Any],
        *,
        stream: bool,
    ) -> Callable[..., Any]:
        room = self._streams if stream else self._calls

        async def wrapped(request: Any, context: Context) -> Any:  # noqa: ANN401
            with self._observed(method, context, stream=stream) as call:
                try:
                    self._check_open()
                    timeout = None
                    if not stream and context.time_remaining() is None:
                        timeout = self._default_timeout
                    with room:
                        async with asyncio.timeout(timeout):
                            return await serve(admit(request), context)
                except Exception as error:
                    await _abort(context, error, call)

        return wrapped

    def _streaming(
        self,
        method: str,
        serve: Any,  # noqa: ANN401
        admit: Callable[[Any], Any],
    ) -> Callable[..., Any]:
        async def wrapped(
            request: Any,  # noqa: ANN401
            context: Context,
        ) -> AsyncIterator[Any]:
            with self._observed(method, context, stream=True) as call:
                try:
                    self._check_open()
                    with self._streams:
                        # Closed at once when the caller leaves, not when it is collected.
                        async with aclosing(serve(admit(request), context)) as responses:
                            async for response in responses:
                                yield response
                except Exception as error:
                    await _abort(context, error, call)

        return wrapped

    def _observed(self, method: str, context: Context, *, stream: bool) -> ObservedCall:
        return ObservedCall(method, context, self._metrics, self._traces, stream=stream)

    def _check_open(self) -> None:
        if self._gate.closed_because is not None:
            raise UnavailableError(self._gate.closed_because)


class _Undecodable:
    """Stands for a request whose bytes did not decode."""

    def __init__(self, error: InvalidRequestError) -> None:
        self.error = error


def _deferred(decode: Any) -> Callable[[bytes], Any]:  # noqa: ANN401
    """Report undecodable bytes as a request, so that the call can end with a good status."""
    message_type: type[Message] = decode.__self__

    def decode_or_explain(data: bytes) -> Message | _Undecodable:
        try:
            return message_type.FromString(data)
        except DecodeError:
            return _Undecodable(explain_undecodable(message_type, data))

    return decode_or_explain


def _one(request: Any) -> Message:  # noqa: ANN401
    if isinstance(request, _Undecodable):
        raise request.error
    assert isinstance(request, Message)
    check(request)
    return request


async def _each(requests: AsyncIterator[Any]) -> AsyncIterator[Message]:
    async for request in requests:
        yield _one(request)


async def _abort(context: Context, error: Exception, call: ObservedCall) -> NoReturn:
    """End a call with the status of an error."""
    # What `context.abort` itself raised ends the call already.
    if isinstance(error, grpc.aio.AbortError):
        raise error
    status = to_status(error)
    call.failed(status)
    await context.abort(status.code, status.message, status.metadata())
