"""A call on its way through the interceptors."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message

from vzero_server.api.status import Status

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service.

    Attributes:
        path: ``/package.Service/Method``.
        request_type: Type of its requests.
        streams_requests: Whether a call sends any number of requests.
        streams_replies: Whether a call receives any number of replies.
    """

    path: str
    request_type: type[Message]
    streams_requests: bool
    streams_replies: bool

    @property
    def service(self) -> str:
        """Name of its service, ``package.Service``."""
        return self.path[1:].partition("/")[0]

    @property
    def name(self) -> str:
        """Its name without that of the service."""
        return self.path.rpartition("/")[2]

    @property
    def is_stream(self) -> bool:
        """Whether either side sends any number of messages."""
        return self.streams_requests or self.streams_replies


@dataclass(slots=True, eq=False)
class Call:
    """A call that is being served.

    Attributes:
        method: The method.
        context: gRPC's context of the call.
        status: The status the call was ended with; None while it runs or if it succeeded.
    """

    method: Method
    context: Context
    status: Status | None = None


UnaryHandler = Callable[[Any, Call], Awaitable[Any]]
"""Serves calls with one reply: takes the request, or an iterator of requests, and the call."""

StreamHandler = Callable[[Any, Call], AsyncGenerator[Any, None]]
"""Serves calls with any number of replies."""


class Interceptor(Protocol):
    """One job around the serving of calls.

    An interceptor is asked once per method to wrap the handler of the method.
    """

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Wrap the handler of a method with one reply."""
        ...

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Wrap the handler of a method with any number of replies."""
        ...
