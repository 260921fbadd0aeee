"""Acknowledged outcomes survive SIGKILL at any moment, without duplicates."""

import random
import threading
import time
from pathlib import Path

import grpc
import pytest

from tests.api.calls import Stubs
from tests.api.test_policy_service import export, msgpack_rows
from tests.outcomes import chunk, outcome
from tests.waiting import wait_until
from vzero_server.testing.local_server import LocalServer

ROUNDS = 10
CHUNK = 20


@pytest.mark.long
def test_acknowledged_outcomes_are_neither_lost_nor_duplicated(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Ten times: stream, SIGKILL at a random moment, restart, check, send everything again.

    The moment is chosen by acknowledgements, and then by time, since a busy machine may take
    long for the first one.
    """
    server = LocalServer(tmp_path / "data", backbone=tiny_model)
    server.start()
    generator = random.Random(7)
    acked: dict[str, set[str]] = {"a": set(), "b": set()}
    sent: dict[str, list[str]] = {"a": [], "b": []}
    rounds_with_acks = 0
    for round_ in range(ROUNDS):
        before = {name: set(ids) for name, ids in acked.items()}
        stop = threading.Event()
        threads = [
            threading.Thread(target=stream, args=(server, name, round_, sent[name], ids, stop))
            for name, ids in acked.items()
        ]
        for thread in threads:
            thread.start()
        acks, pause = generator.choice((0, 0, 1, 10, 30)), generator.uniform(0.0, 0.1)
        wait_until(lambda: acked_chunks(acked, before) >= acks)  # noqa: B023
        time.sleep(pause)
        # The streams do not end by themselves: the kill cuts them.
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        rounds_with_acks += any(ids - before[name] for name, ids in acked.items())
        server.start()
        stubs = Stubs(server)
        for name, ids in acked.items():
            if not sent[name]:
                continue
            stored = stored_ids(stubs, name)
            assert ids <= set(stored), f"lost {len(ids - set(stored))} acked outcomes"
            assert set(stored) <= set(sent[name])
            # Versions have no gaps, and no outcome is stored twice.
            assert len(stored) == len(set(stored))
            # A client that lacks acknowledgements sends everything again.
            again = [outcome(one, f"prompt {one}") for one in sent[name]]
            last = None
            for start in range(0, len(again), 1000):
                last = stubs.update(chunk(name, again[start : start + 1000]))[-1]
            assert last is not None
            assert last.version == len(sent[name])
            ids.update(sent[name])
        stubs.channel.close()
    assert server.terminate() == 0
    assert rounds_with_acks > ROUNDS // 2


def acked_chunks(acked: dict[str, set[str]], before: dict[str, set[str]]) -> int:
    return sum(len(ids) - len(before[name]) for name, ids in acked.items()) // CHUNK


def stream(
    server: LocalServer,
    name: str,
    round_: int,
    sent: list[str],
    acked: set[str],
    stop: threading.Event,
) -> None:
    """Stream chunks until the server has died; record what was sent and acknowledged."""
    stubs = Stubs(server)
    pending: list[list[str]] = []

    def chunks() -> "object":
        for number in range(100_000):
            if stop.is_set():
                return
            ids = [f"{round_}-{number}-{i}" for i in range(CHUNK)]
            pending.append(ids)
            sent.extend(ids)
            yield chunk(name, [outcome(one, f"prompt {one}") for one in ids])
            while len(pending) > 16 and not stop.is_set():
                time.sleep(0.001)

    try:
        for _ in stubs.values.UpdateContext(chunks(), timeout=60):
            acked.update(pending.pop(0))
    except grpc.RpcError as error:
        assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN}, error
    stubs.channel.close()


def stored_ids(stubs: Stubs, name: str) -> list[str]:
    try:
        return list(msgpack_rows(export(stubs, name)))
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND
        return []
