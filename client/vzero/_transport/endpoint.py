"""Address, security and channel options of a server."""

import json
from dataclasses import dataclass
from urllib.parse import quote

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 60.0
"""Seconds a call may take unless the caller gives a timeout."""

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_RETRIED_METHODS = {
    "vzero.v1.ValueService": ["Predict", "AllocateBudget", "RankModels"],
    "vzero.v1.PolicyService": ["GetPolicy", "ListPolicies", "GetFleet", "ListFleets"],
    "vzero.v1.ServerService": ["GetServerInfo"],
}


def service_config() -> str:
    """Return the gRPC service config: which calls gRPC retries, when, and how often.

    Only reads are retried. A server that is full may lengthen the pause with
    ``grpc-retry-pushback-ms``.
    """
    retry_policy = {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    names = [
        {"service": service, "method": method}
        for service, methods in _RETRIED_METHODS.items()
        for method in methods
    ]
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": retry_policy}]})


def channel_options() -> list[tuple[str, str | int]]:
    """Return the options of every channel to a server."""
    return [
        ("grpc.service_config", service_config()),
        ("grpc.enable_retries", 1),
        ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 0),
        # Reconnects to a restarted server within seconds; the default is up to two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address of a server, with security and default timeout.

    Attributes:
        address: ``host:port`` or ``unix:/path``.
        credentials: TLS credentials; None for plain text.
        token: bearer token sent with every call; None for none.
        timeout: time a call may take by default, seconds > 0.
    """

    address: str
    credentials: grpc.ChannelCredentials | None
    token: str | None
    timeout: float

    @classmethod
    def of(
        cls,
        address: str,
        *,
        timeout: float,
        secure: bool,
        root_certificates: bytes | None,
        credentials: grpc.ChannelCredentials | None,
        token: str | None,
    ) -> "Endpoint":
        """Check the arguments of a client; see `Client`.

        Raises:
            ValueError: the address has another form, or the timeout is not positive.
        """
        if not address.startswith("unix:") and ("//" in address or ":" not in address):
            raise ValueError(f"address must be host:port or unix:/path, not {address!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be positive, not {timeout}")
        if credentials is None and (secure or root_certificates is not None):
            credentials = grpc.ssl_channel_credentials(root_certificates)
        return cls(address, credentials, token, timeout)

    def open(self) -> grpc.Channel:
        """Open a blocking channel. It connects on first use."""
        if self.credentials is None:
            return grpc.insecure_channel(self.address, channel_options())
        return grpc.secure_channel(self.address, self.credentials, channel_options())

    def open_async(self) -> grpc.aio.Channel:
        """Open an asyncio channel on the running event loop. It connects on first use."""
        if self.credentials is None:
            return grpc.aio.insecure_channel(self.address, channel_options())
        return grpc.aio.secure_channel(self.address, self.credentials, channel_options())

    def metadata(self, policy_id: str | None = None) -> tuple[tuple[str, str], ...]:
        """Return the headers of a call: the policy, for routers to hash on, and the token."""
        headers: list[tuple[str, str]] = []
        if policy_id is not None:
            headers.append(("x-vzero-policy", quote(policy_id, safe="", errors="replace")))
        if self.token is not None:
            headers.append(("authorization", f"Bearer {self.token}"))
        return tuple(headers)
