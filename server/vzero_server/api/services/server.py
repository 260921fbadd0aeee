"""``vzero.v1.ServerService``: describes the server."""

from vzero.v1 import server_pb2, server_pb2_grpc
from vzero_server.api.call import Context
from vzero_server.api.messages.server import server_info_message
from vzero_server.api.server_info import ServerInfo


class ServerService(server_pb2_grpc.ServerServiceServicer):
    """Describes the server."""

    def __init__(self) -> None:
        self._info: ServerInfo

    def attach(self, info: ServerInfo) -> None:
        """Set the description, before calls are admitted."""
        self._info = info

    async def GetServerInfo(
        self, request: server_pb2.GetServerInfoRequest, context: Context
    ) -> server_pb2.GetServerInfoResponse:
        """Describe the server."""
        return server_info_message(self._info)
