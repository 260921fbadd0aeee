"""``vzero.v1.ServerService``: describes the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from vzero.v1 import server_pb2, server_pb2_grpc
from vzero_server.api.errors import Context


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server has loaded.

    Attributes:
        estimators: Names of its estimators in order of preference; the first is the default.
        backbone: The backbone that embeds prompts, as the setting names it.
        device: The device that runs the models.
    """

    estimators: Sequence[str]
    backbone: str
    device: str


class ServerService(server_pb2_grpc.ServerServiceServicer):
    """Describes the server."""

    def __init__(self) -> None:
        self._info: ServerInfo

    def attach(self, info: ServerInfo) -> None:
        """Set the description; called before calls are admitted."""
        self._info = info

    async def GetServerInfo(
        self, request: server_pb2.GetServerInfoRequest, context: Context
    ) -> server_pb2.GetServerInfoResponse:
        """Describe the server."""
        return server_pb2.GetServerInfoResponse(
            version=version("vzero"),
            estimators=[
                server_pb2.EstimatorInfo(name=name, is_default=place == 0)
                for place, name in enumerate(self._info.estimators)
            ],
            backbone=self._info.backbone,
            device=self._info.device,
        )
