"""Chunks in a folder survive crashes, damage and full disks."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from vzero._stream.spool import Spool
from vzero.errors import SpoolError, SpoolFull
from vzero.v1 import value_pb2

Opener = Callable[..., Spool]


def chunk(name: str, n: int = 2) -> value_pb2.UpdateContextRequest:
    request = value_pb2.UpdateContextRequest(policy_id="p")
    for i in range(n):
        request.outcomes.add(outcome_id=f"{name}-{i}", prompt="a prompt", reward=1, rollouts=1)
    return request


@pytest.fixture
def open_spool() -> Iterator[Opener]:
    """Open spools that the test may leave open."""
    with ExitStack() as stack:

        def open_one(folder: Path, **options: int) -> Spool:
            spool = Spool(folder, **options)
            stack.callback(spool.close)
            return spool

        yield open_one


def test_written_chunks_come_back_in_order(tmp_path: Path, open_spool: Opener) -> None:
    spool = open_spool(tmp_path / "deep" / "spool")
    for number in (2, 10, 1):
        spool.write(number, chunk(str(number), number))
    spool.close()
    entries = open_spool(tmp_path / "deep" / "spool").entries()
    assert [(entry.number, entry.outcomes) for entry in entries] == [(1, 1), (2, 2), (10, 10)]


def test_read_and_remove(tmp_path: Path, open_spool: Opener) -> None:
    spool = open_spool(tmp_path)
    path = spool.write(0, chunk("a"))
    assert spool.read(path) == chunk("a")
    spool.remove(path)
    spool.remove(path)
    assert spool.entries() == []


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "other", "format"])
def test_damaged_chunk_is_set_aside(tmp_path: Path, damage: str, open_spool: Opener) -> None:
    spool = open_spool(tmp_path)
    path = spool.write(0, chunk("a"))
    data = path.read_bytes()
    damaged = {
        "empty": b"",
        "truncated": data[: len(data) // 2],
        "flipped": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        "other": b"\x93\x01\x02\x03",
        "format": data.replace(b"\xa6format\x01", b"\xa6format\x02"),
    }
    path.write_bytes(damaged[damage])
    assert spool.read(path) is None
    assert spool.entries() == []
    assert path.with_suffix(".damaged").exists()


def test_crash_while_writing_leaves_whole_chunks(tmp_path: Path, open_spool: Opener) -> None:
    script = """
import os, pathlib, sys
from vzero._stream.spool import Spool
from vzero.v1 import value_pb2
spool = Spool(pathlib.Path(sys.argv[1]))
request = value_pb2.UpdateContextRequest(policy_id="p")
request.outcomes.add(outcome_id="1", prompt="x", reward=1, rollouts=1)
spool.write(0, request)
real = os.fsync
def crash(handle):
    os.kill(os.getpid(), 9)
os.fsync = crash
spool.write(1, request)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert len(list(tmp_path.glob("*.partial"))) == 1
    spool = open_spool(tmp_path)
    (entry,) = spool.entries()
    assert spool.read(entry.path) is not None
    assert list(tmp_path.glob("*.partial")) == []


def test_a_folder_belongs_to_one_stream(tmp_path: Path, open_spool: Opener) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolError, match="another stream"):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_bytes_are_bounded_and_given_back(tmp_path: Path, open_spool: Opener) -> None:
    size = open_spool(tmp_path / "probe").write(0, chunk("a")).stat().st_size
    spool = open_spool(tmp_path / "spool", max_bytes=2 * size)
    paths = [spool.write(number, chunk("a")) for number in range(2)]
    with pytest.raises(SpoolFull, match="is full"):
        spool.write(2, chunk("a"))
    spool.remove(paths[0])
    spool.write(2, chunk("a"))
    spool.close()
    again = open_spool(tmp_path / "spool", max_bytes=2 * size)
    with pytest.raises(SpoolFull):
        again.write(3, chunk("a"))


def test_a_folder_that_cannot_be_made(tmp_path: Path, open_spool: Opener) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="cannot use"):
        open_spool(tmp_path / "file" / "spool")


def test_a_folder_that_disappears(tmp_path: Path, open_spool: Opener) -> None:
    spool = open_spool(tmp_path / "spool")
    (tmp_path / "spool" / "lock").unlink()
    (tmp_path / "spool").rmdir()
    with pytest.raises(SpoolError, match="cannot write"):
        spool.write(0, chunk("a"))
    spool.close()
