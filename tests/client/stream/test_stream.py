"""Both kinds of stream against a server that is killed and started again."""

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vzero
from tests.waiting import until, wait_until
from vzero import errors
from vzero._stream.spool import Spool
from vzero.v1 import value_pb2
from vzero_server.testing.local_server import LocalServer

UNUSED_ADDRESS = "127.0.0.1:1"


def test_outcomes_arrive(shared_server: LocalServer) -> None:
    with (
        vzero.Client(shared_server.address) as client,
        client.stream("stream/plain", chunk_size=10, step=7) as stream,
    ):
        for i in range(95):
            stream.add(f"prompt {i}", i % 2, rollouts=4, cost=2.5)
        stream.flush()
        assert stream.pending == 0
        assert (stream.accepted, stream.duplicates) == (95, 0)
        assert stream.ack is not None
        assert stream.ack.version == 95
        stream.add("by its step", 1, step=9, outcome_id="x")
        stream.add("by its step", 1, step=9, outcome_id="x")
        stream.flush()
        assert stream.duplicates == 1
        assert client.policy("stream/plain").newest_step == 9


def test_a_single_outcome_is_sent_without_further_ones(shared_server: LocalServer) -> None:
    with (
        vzero.Client(shared_server.address) as client,
        client.stream("stream/lone", flush_interval=0.05) as stream,
    ):
        stream.add("x", 1)
        wait_until(lambda: stream.pending == 0)
        assert stream.accepted == 1


def test_closing_delivers_and_ends(shared_server: LocalServer) -> None:
    with vzero.Client(shared_server.address) as client:
        stream = client.stream("stream/close")
        stream.add("x", 1)
        stream.close()
        stream.close()
        assert (stream.accepted, stream.pending) == (1, 0)
        with pytest.raises(errors.VzeroError, match="closed"):
            stream.add("y", 1)
        with pytest.raises(errors.VzeroError, match="closed"):
            stream.flush()


def test_threads_share_a_stream(shared_server: LocalServer) -> None:
    with (
        vzero.Client(shared_server.address) as client,
        client.stream("stream/threads", chunk_size=7, window=2) as stream,
    ):

        def work(name: int) -> None:
            for i in range(100):
                stream.add(f"prompt {i}", 1, outcome_id=f"{name}-{i}")
            stream.flush()

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (stream.accepted, stream.pending) == (400, 0)


def test_an_idle_stream_needs_no_server() -> None:
    with vzero.Client(UNUSED_ADDRESS) as client, client.stream("p"):
        pass


def test_invalid_outcomes_are_rejected_on_creation() -> None:
    with vzero.Client(UNUSED_ADDRESS) as client, client.stream("p") as stream:
        with pytest.raises(errors.InvalidArgument) as caught:
            stream.add("x", float("nan"))
        assert caught.value.violations[0][0] == "reward"
        assert stream.pending == 0


def test_undelivered_without_a_folder() -> None:
    with vzero.Client(UNUSED_ADDRESS) as client:
        stream = client.stream("p", chunk_size=1, window=2, timeout=0.3)
        stream.add("a", 1)
        stream.add("b", 1)
        with pytest.raises(errors.Undelivered, match="2 outcomes"):
            stream.add("no space", 1)
        with pytest.raises(errors.Undelivered):
            stream.flush(timeout=0.1)
        with pytest.raises(errors.Undelivered) as caught:
            stream.close()
        assert (caught.value.outcomes, caught.value.spooled) == (2, None)
        assert caught.value.code is not None, "it says why"


def test_an_error_in_the_block_is_raised() -> None:
    with (
        vzero.Client(UNUSED_ADDRESS) as client,
        pytest.raises(KeyError),
        client.stream("p", timeout=0.2) as stream,
    ):
        stream.add("a", 1)
        raise KeyError


def test_a_client_closed_before_its_stream() -> None:
    client = vzero.Client(UNUSED_ADDRESS)
    stream = client.stream("p", chunk_size=1)
    client.close()
    stream.add("a", 1)
    with pytest.raises(errors.VzeroError, match="closed before its stream"):
        stream.close()


def test_a_full_folder(tmp_path: Path) -> None:
    with vzero.Client(UNUSED_ADDRESS) as client:
        stream = client.stream(
            "p", chunk_size=1, window=2, spool_dir=tmp_path, spool_bytes=400, timeout=5
        )
        with pytest.raises(errors.SpoolFull):
            for i in range(100):
                stream.add(f"{i}", 1)
        spooled = len(list(tmp_path.glob("*.chunk")))
        assert spooled >= 1
        assert stream.pending == spooled + 2, "the rest is still in this process"
        with pytest.raises(errors.Undelivered):
            stream.close(timeout=0)


def test_leftovers_are_delivered_by_the_next_stream(
    shared_server: LocalServer, tmp_path: Path
) -> None:
    with vzero.Client(UNUSED_ADDRESS) as client:
        stream = client.stream("stream/left", chunk_size=3, window=2, spool_dir=tmp_path)
        for i in range(50):
            stream.add(f"prompt {i}", 1, step=i)
        with pytest.raises(errors.Undelivered, match="50 outcomes") as caught:
            while True:  # until the last chunk has reached the folder
                stream.flush(timeout=0.2)
        stream.close(timeout=0.2)
        assert stream.pending == 50
        assert caught.value.outcomes == 50
    with vzero.Client(shared_server.address) as client:
        with client.stream("stream/next", spool_dir=tmp_path) as stream:
            assert stream.pending == 50
            stream.add("new", 0)
            stream.flush()
            assert stream.accepted == 51
            assert stream.ack == vzero.Ack("stream/next", 1, 1, 0)
        assert client.policy("stream/left").version == 50
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_refused_chunk_is_set_aside(shared_server: LocalServer, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(5):
        request = value_pb2.UpdateContextRequest(policy_id="stream/refused")
        reward = 3.0 if number == 2 else 1.0
        request.outcomes.add(outcome_id=str(number), prompt="x", reward=reward, rollouts=1)
        spool.write(number, request)
    spool.close()
    with vzero.Client(shared_server.address) as client:
        stream = client.stream("stream/refused", spool_dir=tmp_path)
        with pytest.raises(errors.InvalidArgument) as caught:
            stream.flush()
        assert caught.value.code is not None
        assert "reward" in caught.value.violations[0][0]
        stream.flush()
        assert stream.accepted == 4
        stream.close()
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".rejected", ""]


def test_a_killed_server_neither_loses_nor_duplicates_outcomes(
    mortal_server: LocalServer, tmp_path: Path
) -> None:
    with vzero.Client(mortal_server.address) as client:
        with (
            client.stream("killed/memory", chunk_size=5, window=8) as memory,
            client.stream("killed/spool", chunk_size=5, window=2, spool_dir=tmp_path) as spool,
        ):
            for i in range(50):
                memory.add(f"prompt {i}", 1)
                spool.add(f"prompt {i}", 1)
            mortal_server.kill()
            for i in range(50, 300):
                spool.add(f"prompt {i}", 1)
            assert spool.pending >= 250, "they are in the folder"
            with ThreadPoolExecutor() as pool:
                back = pool.submit(mortal_server.start)
                update = pool.submit(client.update, "killed/update", ["x", "y"], 1)
                for i in range(50, 300):  # waits while the window is full
                    memory.add(f"prompt {i}", 1)
                memory.flush()
                spool.flush()
                back.result()
                assert update.result().accepted + update.result().duplicates == 2
            assert memory.accepted + memory.duplicates == 300
            assert spool.accepted + spool.duplicates == 300
        assert client.policy("killed/memory").version == 300
        assert client.policy("killed/spool").version == 300
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_stream_reconnects_after_a_server_hangs(mortal_server: LocalServer) -> None:
    with (
        vzero.Client(mortal_server.address) as client,
        client.stream("killed/hangs", chunk_size=1, timeout=0.5) as stream,
    ):
        stream.add("a", 1)
        stream.flush(timeout=30)
        os.kill(mortal_server.pid, signal.SIGSTOP)
        try:
            stream.add("b", 1)
            with pytest.raises(errors.Undelivered, match="no acknowledgement within"):
                stream.flush(timeout=3)
        finally:
            os.kill(mortal_server.pid, signal.SIGCONT)
        stream.flush(timeout=30)
        assert stream.accepted + stream.duplicates == 2
        assert client.policy("killed/hangs").version == 2


async def test_asyncio_outcomes_arrive(shared_server: LocalServer) -> None:
    async with (
        vzero.AsyncClient(shared_server.address) as client,
        client.stream("stream/aio", chunk_size=10, window=2, flush_interval=0.05) as stream,
    ):
        for i in range(95):
            await stream.add(f"prompt {i}", i % 2)
        await stream.flush()
        assert (stream.accepted, stream.pending) == (95, 0)
        await stream.add("lone", 1)
        await until(lambda: stream.pending == 0)
        with pytest.raises(errors.InvalidArgument):
            await stream.add("x", 2)
        await stream.add("last", 1)
    assert stream.accepted == 97
    with pytest.raises(errors.VzeroError, match="closed"):
        await stream.add("y", 1)


async def test_asyncio_undelivered() -> None:
    async with vzero.AsyncClient(UNUSED_ADDRESS) as client:
        stream = client.stream("p", chunk_size=1, window=2, timeout=0.3)
        with pytest.raises(errors.VzeroError, match="async with"):
            await stream.add("a", 1)
        with pytest.raises(errors.Undelivered, match="2 outcomes"):
            async with stream:
                await stream.add("a", 1)
                await stream.add("b", 1)
                with pytest.raises(errors.Undelivered):
                    await stream.add("c", 1)
                with pytest.raises(errors.Undelivered):
                    await stream.flush(0.1)


async def test_asyncio_killed_server(mortal_server: LocalServer, tmp_path: Path) -> None:
    async with vzero.AsyncClient(mortal_server.address) as client:
        async with client.stream(
            "killed/aio", chunk_size=5, window=2, spool_dir=tmp_path
        ) as stream:
            for i in range(50):
                await stream.add(f"prompt {i}", 1)
            mortal_server.kill()
            for i in range(50, 300):
                await stream.add(f"prompt {i}", 1)
            back = asyncio.create_task(asyncio.to_thread(mortal_server.start))
            ack = await client.update("killed/aio-update", ["x", "y"], 1)
            assert ack.accepted + ack.duplicates == 2
            await back
            await stream.flush()
            assert stream.accepted + stream.duplicates == 300
        assert (await client.policy("killed/aio")).version == 300
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


async def test_asyncio_cancellation_ends_the_stream(tmp_path: Path) -> None:
    async with vzero.AsyncClient(UNUSED_ADDRESS) as client:

        async def forever() -> None:
            async with client.stream(
                "p", chunk_size=1, window=1, spool_dir=tmp_path, timeout=0.2
            ) as stream:
                await stream.add("a", 1)
                added.set()
                await asyncio.Event().wait()

        added = asyncio.Event()
        task = asyncio.create_task(forever())
        await added.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(list(tmp_path.glob("*.chunk"))) == 1
