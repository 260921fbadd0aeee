"""Which calls are admitted: while the server serves, up to the limits on concurrent calls."""

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any

from vzero_server.api.call import Call, Method, StreamHandler, UnaryHandler
from vzero_server.api.errors import ConcurrencyLimitError, UnavailableError


class ServingGate:
    """Refuses the calls of some services unless the server is serving.

    Attributes:
        not_serving_because: Why calls are refused; None while they are admitted.
        draining: Set when the server begins to drain. Open streams should then end.
    """

    def __init__(self, services: Collection[str]) -> None:
        """Refuse calls until ``open``.

        Args:
            services: Full names of the services whose calls are refused. Calls of other
                services, such as health, are always admitted.
        """
        self.not_serving_because: str | None = "the server is starting"
        self.draining = asyncio.Event()
        self._services = frozenset(services)

    def open(self) -> None:
        """Admit calls."""
        self.not_serving_because = None

    def drain(self) -> None:
        """Refuse new calls and ask open streams to end."""
        self.not_serving_because = "the server is draining"
        self.draining.set()

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """See ``Interceptor``."""
        if method.service not in self._services:
            return handler

        def admitted(request: Any, call: Call) -> Any:  # noqa: ANN401
            self._check()
            return handler(request, call)

        return admitted

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """See ``Interceptor``."""
        if method.service not in self._services:
            return handler

        def admitted(request: Any, call: Call) -> AsyncGenerator[Any, None]:  # noqa: ANN401
            self._check()
            return handler(request, call)

        return admitted

    def _check(self) -> None:
        if self.not_serving_because is not None:
            raise UnavailableError(self.not_serving_because)


class ConcurrencyLimiter:
    """A limit on concurrent calls: ``with limiter`` takes a slot while a call is served.

    A call that gets no slot is refused at once, because waiting would take memory as well.

    Attributes:
        running: Slots in use.
    """

    def __init__(self, limit: int, *, kind: str, reason: str) -> None:
        """Set the limit.

        Args:
            limit: Number of slots, at least 1.
            kind: What takes the slots, for the error text.
            reason: Reason of a refusal, for programs.
        """
        self.running = 0
        self._limit = limit
        self._kind = kind
        self._reason = reason

    def __enter__(self) -> None:
        """Take a slot.

        Raises:
            ConcurrencyLimitError: All slots are in use.
        """
        if self.running >= self._limit:
            message = f"the server already serves {self._limit} {self._kind}"
            raise ConcurrencyLimitError(message, self._reason)
        self.running += 1

    def __exit__(self, *_: object) -> None:
        self.running -= 1


class ConcurrencyLimits:
    """Applies a limiter to every call.

    Unary calls and streams have limiters of their own, so that idle streams do not keep calls
    out. So have auxiliary services such as health: a probe must get a reply from a server
    that serves as many calls as it can.
    """

    def __init__(
        self,
        services: Collection[str],
        *,
        calls: ConcurrencyLimiter,
        streams: ConcurrencyLimiter,
        auxiliary: ConcurrencyLimiter,
    ) -> None:
        """Set the limiters.

        Args:
            services: Full names of the services that ``calls`` and ``streams`` apply to.
            calls: Limits the unary calls of these services.
            streams: Limits the streams of these services.
            auxiliary: Limits the calls and streams of all other services.
        """
        self._services = frozenset(services)
        self._calls = calls
        self._streams = streams
        self._auxiliary = auxiliary

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """See ``Interceptor``."""
        limiter = self._limiter(method)

        async def limited(request: Any, call: Call) -> Any:  # noqa: ANN401
            with limiter:
                return await handler(request, call)

        return limited

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """See ``Interceptor``."""
        limiter = self._limiter(method)

        async def limited(request: Any, call: Call) -> AsyncGenerator[Any, None]:  # noqa: ANN401
            with limiter:
                # Closed when the caller leaves, not when the generator is collected.
                async with aclosing(handler(request, call)) as replies:
                    async for reply in replies:
                        yield reply

        return limited

    def _limiter(self, method: Method) -> ConcurrencyLimiter:
        if method.service not in self._services:
            return self._auxiliary
        return self._streams if method.is_stream else self._calls
