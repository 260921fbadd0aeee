"""Builds the gRPC server around the services."""

from pathlib import Path

import grpc
from grpc_channelz.v1 import channelz
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from vzero.v1 import (
    policy_pb2,
    policy_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
    value_pb2,
    value_pb2_grpc,
)
from vzero_server.api.admission import ConcurrencyLimiter, ConcurrencyLimits, ServingGate
from vzero_server.api.chain import build_chain
from vzero_server.api.server_info import ServerInfo
from vzero_server.api.services.policies import PolicyService
from vzero_server.api.services.server import ServerService
from vzero_server.api.services.values import ValueService
from vzero_server.api.workers import EdgeWorkers
from vzero_server.engine.predictor import Predictor
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import Traces
from vzero_server.settings import Settings
from vzero_server.storage.base import OutcomeStore

SERVICES = (
    value_pb2.DESCRIPTOR.services_by_name["ValueService"].full_name,
    policy_pb2.DESCRIPTOR.services_by_name["PolicyService"].full_name,
    server_pb2.DESCRIPTOR.services_by_name["ServerService"].full_name,
)
"""Full names of the services of ``vzero.v1``."""

# Calls that gRPC accepts per call that may be served.
_ACCEPTED_PER_SERVED = 4

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class ApiServer:
    """The gRPC server: listens at once, and serves once store and predictor are attached.

    Health, reflection and channelz reply from the start, so that a probe can tell a server
    that is loading from one that is not running.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        workers: EdgeWorkers,
        traces: Traces | None = None,
    ) -> None:
        """Set up the server; ``listen`` opens the port.

        Args:
            settings: All settings.
            metrics: Counts the calls.
            workers: Threads for what would halt the event loop.
            traces: Makes the spans of calls; None makes none.
        """
        self._settings = settings
        self._gate = ServingGate(SERVICES)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[
                build_chain(
                    self._gate,
                    _limits(settings, metrics),
                    default_timeout=settings.default_timeout,
                    metrics=metrics,
                    traces=traces,
                )
            ],
            options=_options(settings),
            maximum_concurrent_rpcs=_accepted_calls(settings),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        channelz.add_channelz_servicer(self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._values = ValueService(self._gate, workers)
        self._policies = PolicyService(workers, max_bundle_bytes=settings.max_bundle_bytes)
        self._info = ServerService()
        value_pb2_grpc.add_ValueServiceServicer_to_server(self._values, self._server)
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(self._policies, self._server)
        server_pb2_grpc.add_ServerServiceServicer_to_server(self._info, self._server)

    @property
    def not_serving_because(self) -> str | None:
        """Why calls are refused; None while they are admitted."""
        return self._gate.not_serving_because

    async def listen(self) -> int:
        """Start to listen. Calls of ``vzero.v1`` are UNAVAILABLE until ``serve``.

        Returns:
            The port.

        Raises:
            OSError: The address cannot be listened on.
        """
        await self._set_health(_NOT_SERVING)
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise OSError(f"cannot listen on {address}: in use, or not an address here") from None
        await self._server.start()
        return port

    async def serve(
        self, store: OutcomeStore, predictor: Predictor, folder: Path, info: ServerInfo
    ) -> None:
        """Admit calls.

        Args:
            store: The policies and their outcomes.
            predictor: Computes values.
            folder: Folder for the files of bundles that are being imported.
            info: Describes the server.
        """
        self._values.attach(store, predictor)
        self._policies.attach(store, predictor, folder)
        self._info.attach(info)
        self._gate.open()
        await self._set_health(_SERVING)

    async def drain(self) -> None:
        """Refuse new calls, wait for the running ones to finish, then stop."""
        await self._set_health(_NOT_SERVING)
        self._gate.drain()
        await self._server.stop(self._settings.drain_timeout)

    async def _set_health(self, status: int) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)


def _limits(settings: Settings, metrics: Metrics) -> ConcurrencyLimits:
    """Return the limits on concurrent calls, with gauges of the slots in use."""
    calls = ConcurrencyLimiter(settings.max_concurrent_calls, kind="calls", reason="TOO_MANY_CALLS")
    streams = ConcurrencyLimiter(
        settings.max_open_streams, kind="streams", reason="TOO_MANY_STREAMS"
    )
    # A client may watch the health of each of its connections.
    auxiliary = ConcurrencyLimiter(
        settings.max_open_streams, kind="auxiliary calls", reason="TOO_MANY_CALLS"
    )
    metrics.read("calls_running", "Unary calls being served.", lambda: calls.running)
    metrics.read("streams_open", "Open streams.", lambda: streams.running)
    return ConcurrencyLimits(SERVICES, calls=calls, streams=streams, auxiliary=auxiliary)


def _accepted_calls(settings: Settings) -> int:
    """Return the number of calls that gRPC accepts, those to be refused among them.

    gRPC refuses without a time to wait, so that the limits of the chain must come first.
    """
    return _ACCEPTED_PER_SERVED * (settings.max_concurrent_calls + settings.max_open_streams)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Beyond these limits gRPC cancels calls at random that the event loop has not reached.
        ("grpc.server.max_pending_requests", _accepted_calls(settings)),
        ("grpc.server.max_pending_requests_hard_limit", _accepted_calls(settings)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Two servers on one port would split its callers between them.
        ("grpc.so_reuseport", 0),
        # Clients may ping every 10 s, also between calls.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Callers that vanish without closing are noticed, and their work is dropped.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
