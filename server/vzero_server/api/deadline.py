"""A deadline for calls that set none."""

import asyncio
from typing import Any

from vzero_server.api.call import Call, Method, StreamHandler, UnaryHandler


class DefaultDeadline:
    """Ends unary calls without a deadline after a default time.

    gRPC itself ends calls whose deadline has passed. Streams may last as long as the caller
    wants.
    """

    def __init__(self, seconds: float) -> None:
        """Set the default.

        Args:
            seconds: Time a call may take, in s.
        """
        self._seconds = seconds

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """See ``Interceptor``."""
        if method.is_stream:
            return handler

        async def limited(request: Any, call: Call) -> Any:  # noqa: ANN401
            if call.context.time_remaining() is not None:
                return await handler(request, call)
            async with asyncio.timeout(self._seconds):
                return await handler(request, call)

        return limited

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """See ``Interceptor``."""
        return handler
