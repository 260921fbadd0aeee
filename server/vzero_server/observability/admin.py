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

from vzero_server.observability.liveness import Worker

# Seconds an unfinished reply gets when the port closes.
_CLOSE_TIMEOUT = 1


class AdminServer:
    """Serves ``/metrics``, ``/healthz`` and ``/readyz`` on the running event loop.

    It has neither authentication nor encryption, so the port must stay on a private network.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        not_ready_because: Callable[[], str | None],
        worker: Worker,
    ) -> None:
        """Set up the routes; ``listen`` opens the port.

        Args:
            registry: The metrics that ``/metrics`` shows.
            not_ready_because: Returns why calls are refused; None while they are admitted.
            worker: Encodes the metrics.
        """
        self._registry = registry
        self._worker = worker
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
                timeout_graceful_shutdown=_CLOSE_TIMEOUT,
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def listen(self, host: str, port: int) -> int:
        """Open the port and start to serve.

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
            listener = socket.create_server((host, port), family=family)
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"cannot listen on {host}:{port} for admin: {reason}") from None
        self._serving = asyncio.create_task(self._server.serve([listener]))
        return int(listener.getsockname()[1])

    async def close(self) -> None:
        """Close the port, if it is open."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        # This takes milliseconds, which would delay calls.
        body = await self._worker.run(encode, self._registry)
        return Response(body, media_type=content_type)

    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, request: Request) -> Response:
        reason = self._not_ready_because()
        return PlainTextResponse(reason or "ok", 503 if reason else 200)


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals."""
        yield
