"""Calls about the server."""

from vzero._async.connection import AsyncConnection
from vzero._messages.policy_replies import read_server_info
from vzero.v1 import server_pb2
from vzero.values import ServerInfo


class AsyncServerCalls(AsyncConnection):
    """Describe the server."""

    async def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Describe the server: its version, estimators, backbone and device.

        Args:
            timeout: longest time of the call, seconds; None: the timeout of the client.
        """
        request = server_pb2.GetServerInfoRequest()
        reply = await self._call(self._services.server.GetServerInfo, request, timeout)
        return read_server_info(reply)
