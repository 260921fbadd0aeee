"""The description of the server as a message."""

from vzero.v1 import server_pb2
from vzero_server.api.server_info import ServerInfo


def server_info_message(info: ServerInfo) -> server_pb2.GetServerInfoResponse:
    """Return the reply of ``GetServerInfo``."""
    return server_pb2.GetServerInfoResponse(
        version=info.version,
        estimators=[
            server_pb2.EstimatorInfo(name=name, is_default=position == 0)
            for position, name in enumerate(info.estimators)
        ],
        backbone=info.backbone,
        device=info.device,
    )
