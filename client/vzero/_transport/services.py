"""Channel and stubs of a server, for both kinds of client."""

from functools import cached_property

import grpc

from vzero._transport.endpoint import Endpoint
from vzero.v1 import policy_pb2_grpc, server_pb2_grpc, value_pb2_grpc

CLOSED_CHANNEL_ERRORS = (ValueError,)
"""What gRPC raises when a call is made on a closed blocking channel."""

ASYNC_CLOSED_CHANNEL_ERRORS = (grpc.aio.UsageError, RuntimeError)
"""What gRPC raises when a call is made on a closed asyncio channel."""


class Services:
    """Blocking stubs. All are made at once, because threads share them.

    Attributes:
        channel: channel of all calls.
        values: stub of ValueService.
        policies: stub of PolicyService.
        server: stub of ServerService.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Open the channel; it connects on first use."""
        self.channel = endpoint.open()
        self.values = value_pb2_grpc.ValueServiceStub(self.channel)
        self.policies = policy_pb2_grpc.PolicyServiceStub(self.channel)
        self.server = server_pb2_grpc.ServerServiceStub(self.channel)

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()


class AsyncServices:
    """Asyncio stubs. Each is made on first use, because a channel needs the running event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Remember the endpoint; nothing is opened."""
        self._endpoint = endpoint

    @cached_property
    def channel(self) -> grpc.aio.Channel:
        """Channel of all calls."""
        return self._endpoint.open_async()

    @cached_property
    def values(self) -> "value_pb2_grpc.ValueServiceAsyncStub":
        """Stub of ValueService."""
        return value_pb2_grpc.ValueServiceStub(self.channel)

    @cached_property
    def policies(self) -> "policy_pb2_grpc.PolicyServiceAsyncStub":
        """Stub of PolicyService."""
        return policy_pb2_grpc.PolicyServiceStub(self.channel)

    @cached_property
    def server(self) -> "server_pb2_grpc.ServerServiceAsyncStub":
        """Stub of ServerService."""
        return server_pb2_grpc.ServerServiceStub(self.channel)

    async def close(self) -> None:
        """Close the channel if it was opened."""
        if "channel" in vars(self):
            await self.channel.close()
