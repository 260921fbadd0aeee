"""The interceptors in front of every service, in order."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc

from vzero_server.api.admission import ConcurrencyLimits, ServingGate
from vzero_server.api.call import Call, Context, Interceptor, Method, StreamHandler, UnaryHandler
from vzero_server.api.deadline import DefaultDeadline
from vzero_server.api.errors import ErrorInterceptor
from vzero_server.api.observability import ObservabilityInterceptor
from vzero_server.api.validation import RequestValidation
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import Traces

MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["MethodHandler | None"]]


def build_chain(
    gate: ServingGate,
    limits: ConcurrencyLimits,
    *,
    default_timeout: float,
    metrics: Metrics,
    traces: Traces | None,
) -> "InterceptorChain":
    """Return the interceptors of the server, the outermost first.

    Args:
        gate: Refuses calls while the server is starting or draining.
        limits: Limits concurrent calls.
        default_timeout: Deadline of a unary call that sets none, in s.
        metrics: Counts all calls.
        traces: Makes their spans; None makes none.
    """
    return InterceptorChain(
        [
            ObservabilityInterceptor(metrics, traces),
            ErrorInterceptor(),
            # Authentication belongs here. Its refusals are counted and reported like any
            # other, and a refused call takes no slot and is not decoded.
            gate,
            limits,
            DefaultDeadline(default_timeout),
            # Requests are bytes up to here, and messages that keep their rules after it.
            RequestValidation(),
        ]
    )


class InterceptorChain(grpc.aio.ServerInterceptor):
    """Puts a list of interceptors around every method of a gRPC server.

    A handler is wrapped once per method, so that a call costs one coroutine per interceptor
    and no task.

    Attributes:
        interceptors: The interceptors, the outermost first.
    """

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        """Set the interceptors, the outermost first."""
        self.interceptors = tuple(interceptors)
        self._wrapped: dict[str, MethodHandler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "MethodHandler | None":
        """Return the wrapped handler of a method, or None if there is no such method."""
        path = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            # Unknown names are not cached, because callers can make up any number of them.
            if handler is None:
                return None
            wrapped = self._wrapped[path] = self._wrap(path, handler)
        return wrapped

    def _wrap(self, path: str, handler: MethodHandler) -> MethodHandler:
        # The generated code passes the bound class method `Request.FromString`.
        deserializer: Any = handler.request_deserializer
        method = Method(
            path,
            deserializer.__self__,
            streams_requests=handler.request_streaming,
            streams_replies=handler.response_streaming,
        )
        # Requests stay bytes until an interceptor decodes them.
        decode, encode = None, handler.response_serializer
        if method.streams_replies:
            replies = self._stream(method, handler.stream_stream or handler.unary_stream)
            if method.streams_requests:
                return grpc.stream_stream_rpc_method_handler(replies, decode, encode)
            return grpc.unary_stream_rpc_method_handler(replies, decode, encode)
        reply = self._unary(method, handler.stream_unary or handler.unary_unary)
        if method.streams_requests:
            return grpc.stream_unary_rpc_method_handler(reply, decode, encode)
        return grpc.unary_unary_rpc_method_handler(reply, decode, encode)

    def _unary(self, method: Method, servicer: Any) -> Callable[..., Any]:  # noqa: ANN401
        def served(request: Any, call: Call) -> Awaitable[Any]:  # noqa: ANN401
            reply: Awaitable[Any] = servicer(request, call.context)
            return reply

        handler: UnaryHandler = served
        for interceptor in reversed(self.interceptors):
            handler = interceptor.unary(method, handler)

        async def serve(request: Any, context: Context) -> Any:  # noqa: ANN401
            return await handler(request, Call(method, context))

        return serve

    def _stream(self, method: Method, servicer: Any) -> Callable[..., Any]:  # noqa: ANN401
        handler = _replies_of(servicer)
        for interceptor in reversed(self.interceptors):
            handler = interceptor.stream(method, handler)

        async def serve(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401
            async for reply in handler(request, Call(method, context)):
                yield reply

        return serve


def _replies_of(servicer: Any) -> StreamHandler:  # noqa: ANN401
    """Return a servicer's method as a handler, whichever of gRPC's two styles it has."""
    if inspect.isasyncgenfunction(servicer):

        def generated(request: Any, call: Call) -> AsyncGenerator[Any, None]:  # noqa: ANN401
            replies: AsyncGenerator[Any, None] = servicer(request, call.context)
            return replies

        return generated

    async def written(request: Any, call: Call) -> AsyncGenerator[Any, None]:  # noqa: ANN401
        # The method sends its replies by `context.write`.
        await servicer(request, call.context)
        return
        yield

    return written
