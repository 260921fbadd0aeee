"""Builds the gRPC server around the servicers."""

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
from vzero_server.api.admission import ConcurrencyLimiter
from vzero_server.api.interceptors import Edge, Gate
from vzero_server.api.services.policy_service import PolicyService
from vzero_server.api.services.server import ServerInfo, ServerService
from vzero_server.api.services.value_service import ValueService
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

# Calls that gRPC lets in for each that may be served.
_SPARE = 4

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class ApiServer:
    """The gRPC server: listens at once, serves once the engine is there.

    Health, reflection and channelz answer from the start, so that a probe can tell a
    server that is loading from one that is not there.
    """

    def __init__(self, settings: Settings, metrics: Metrics, traces: Traces | None = None) -> None:
        """Set up the server; ``listen`` opens the port.

        Args:
            settings: All settings.
            metrics: Where calls are counted.
            traces: Makes the spans of calls, if spans are wanted.
        """
        self._settings = settings
        self._gate = Gate()
        self._health = health.aio.HealthServicer()
        calls = ConcurrencyLimiter(
            settings.max_concurrent_calls, kind="calls", reason="TOO_MANY_CALLS"
        )
        streams = ConcurrencyLimiter(
            settings.max_open_streams, kind="streams", reason="TOO_MANY_STREAMS"
        )
        metrics.read("calls_running", "Unary calls being served.", lambda: calls.taken)
        metrics.read("streams_open", "Streams open.", lambda: streams.taken)
        self._server = grpc.aio.server(
            interceptors=[
                Edge(
                    self._gate,
                    default_timeout=settings.default_timeout,
                    calls=calls,
                    streams=streams,
                    metrics=metrics,
                    traces=traces,
                )
            ],
            options=_options(settings),
            maximum_concurrent_rpcs=_most_calls(settings),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        channelz.add_channelz_servicer(self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._values = ValueService(self._gate)
        self._policies = PolicyService(max_bundle_bytes=settings.max_bundle_bytes)
        self._description = ServerService()
        server_pb2_grpc.add_ServerServiceServicer_to_server(self._description, self._server)
        value_pb2_grpc.add_ValueServiceServicer_to_server(self._values, self._server)
        policy_pb2_grpc.add_PolicyServiceServicer_to_server(self._policies, self._server)

    @property
    def not_serving_because(self) -> str | None:
        """Why calls are not let in; None when they are."""
        return self._gate.closed_because

    async def listen(self) -> int:
        """Start listening; every call of ``vzero.v1`` is UNAVAILABLE so far.

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
        self, store: OutcomeStore, engine: Predictor, spool: Path, info: ServerInfo
    ) -> None:
        """Let calls in.

        Args:
            store: What is known of policies.
            engine: Answers.
            spool: Folder for bundles on their way in.
            info: Describes the server.
        """
        self._values.attach(store, engine)
        self._policies.attach(store, engine, spool)
        self._description.attach(info)
        self._gate.open()
        await self._set_health(_SERVING)

    async def drain(self) -> None:
        """Refuse new calls, let the running ones finish, then stop."""
        await self._set_health(_NOT_SERVING)
        self._gate.drain()
        await self._server.stop(self._settings.drain_timeout)

    async def _set_health(self, status: int) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)


def _most_calls(settings: Settings) -> int:
    """Most calls gRPC lets in: those served, on their way to a refusal, or to health.

    It refuses without a time to wait, so that our own refusals must come first.
    """
    return _SPARE * (settings.max_concurrent_calls + settings.max_open_streams)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # Beyond these a call that the event loop has not come to yet is cancelled at random.
        ("grpc.server.max_pending_requests", _most_calls(settings)),
        ("grpc.server.max_pending_requests_hard_limit", _most_calls(settings)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Two servers on one port would split its callers between them.
        ("grpc.so_reuseport", 0),
        # Clients may ping as often as they like within reason, also between calls.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Callers that vanished without a word are noticed, and their work dropped.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
