"""The admin port: metrics and probes over HTTP."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

# Seconds an unfinished answer gets when the port closes.
_GRACE = 1


class AdminServer:
    """Answers ``/metrics``, ``/healthz`` and ``/readyz`` on the running event loop.

    It neither asks who calls nor encrypts, so it belongs on a network of one's own.
    """

    def __init__(
        self, registry: CollectorRegistry, not_ready_because: Callable[[], str | None]
    ) -> None:
        """Set up the answers; ``listen`` opens the port.

        Args:
            registry: What ``/metrics`` shows.
            not_ready_because: Says why calls are not let in; None when they are.
        """
        self._registry = registry
        self._not_ready_because = not_ready_because
        self._server = _Server(
            uvicorn.Config(
                Starlette(
                    routes=[
                        Route("/metrics", self._metrics),
                        Route("/healthz", self._healthz),
                        Route("/readyz", self._readyz),
                    ]
                ),
                http="h11",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="warning",
                limit_concurrency=64,
                timeout_graceful_shutdown=_GRACE,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def listen(self, host: str, port: int) -> int:
        """Open the port and answer from now on.

        Args:
            host: Address to listen on.
            port: 0 takes a free one.

        Returns:
            The port.

        Raises:
            OSError: The address cannot be listened on.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            opened = socket.create_server((host, port), family=family)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"cannot listen on {host}:{port} for admin: {reason}") from None
        self._serving = asyncio.create_task(self._server.serve([opened]))
        return int(opened.getsockname()[1])

    async def close(self) -> None:
        """Close the port, if it is open."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        # Some milliseconds of work, which calls need not wait for.
        body = await asyncio.to_thread(encode, self._registry)
        return Response(body, media_type=content_type)

    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, request: Request) -> Response:
        reason = self._not_ready_because()
        return PlainTextResponse(reason or "ok", 503 if reason else 200)


class _Server(uvicorn.Server):
    """Leaves the signals to whoever runs the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
