"""Both clients describe the server."""

import vzero
from vzero_server.testing.local_server import LocalServer


def check(server: vzero.ServerInfo) -> None:
    assert server.version == vzero.__version__
    assert {"icl", "knn"} <= set(server.estimators)
    assert server.default_estimator == "icl"
    assert server.backbone
    assert server.device == "cpu"


def test_blocking(shared_server: LocalServer) -> None:
    with vzero.Client(shared_server.address) as client:
        check(client.server_info())


async def test_asyncio(shared_server: LocalServer) -> None:
    async with vzero.AsyncClient(shared_server.address) as client:
        check(await client.server_info())
