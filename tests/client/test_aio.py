"""The asyncio client against a server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

import vzero
from vzero import errors
from vzero._messages import policies
from vzero_server.testing.local_server import LocalServer


@pytest.fixture
async def client(shared_server: LocalServer) -> AsyncIterator[vzero.AsyncClient]:
    async with vzero.AsyncClient(shared_server.address) as connected:
        await connected.wait_ready(60)
        yield connected


async def test_update_then_predict(client: vzero.AsyncClient) -> None:
    ack = await client.update("aio/update", ["a", "b"], np.array([0.0, 1.0]), step=4)
    assert ack == vzero.Ack("aio/update", 2, 2, 0)
    values = await client.predict("aio/update", ["a", "b", "c"], min_version=2)
    assert len(values) == 3
    assert values.context.newest_step == 4


async def test_calls_run_concurrently(client: vzero.AsyncClient) -> None:
    await client.update("aio/many", ["a"], 1)
    answers = await asyncio.gather(
        *(client.predict("aio/many", [f"prompt {i}"] * (i + 1)) for i in range(20))
    )
    assert [len(values) for values in answers] == list(range(1, 21))


async def test_errors(client: vzero.AsyncClient) -> None:
    with pytest.raises(errors.NotFound) as unknown:
        await client.predict("aio/unknown", ["x"])
    assert unknown.value.reason
    with pytest.raises(errors.InvalidArgument):
        await client.update("aio/errors", ["x"], 2)
    await client.update("aio/errors", ["x"], 1)
    with pytest.raises(errors.DeadlineExceeded):
        await client.predict("aio/errors", ["x"], min_version=1000, timeout=0.3)


async def test_policies_and_bundles(
    client: vzero.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.update("aio/bundle", ["x", "y", "z"], 0.5)
    await client.export("aio/bundle", tmp_path / "bundle")
    copy = await client.import_(tmp_path / "bundle", policy_id="aio/copy")
    assert (copy.policy_id, copy.accepted) == ("aio/copy", 3)
    monkeypatch.setattr(policies, "PAGE_SIZE", 1)
    names = [policy.policy_id for policy in await client.policies()]
    assert {"aio/bundle", "aio/copy"} <= set(names)
    assert await client.policy("aio/copy") in await client.policies()
    assert await client.delete("aio/copy") == 3
    with pytest.raises(errors.NotFound):
        await client.policy("aio/copy")


async def test_no_server_at_the_address() -> None:
    async with vzero.AsyncClient("127.0.0.1:1", timeout=5) as client:
        with pytest.raises(errors.Unavailable):
            await client.predict("p", ["x"])
        with pytest.raises(errors.Unavailable):
            await client.update("p", ["x"], 1, timeout=0.3)
        with pytest.raises(errors.Unavailable, match="no server is ready"):
            await client.wait_ready(0.3)


def test_a_client_can_be_made_before_the_loop(shared_server: LocalServer) -> None:
    client = vzero.AsyncClient(shared_server.address)

    async def use() -> int:
        async with client:
            return (await client.update("aio/early", ["x"], 1)).accepted

    assert asyncio.run(use()) == 1
