"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def write_whole(path: Path) -> Iterator[IO[bytes]]:
    """Write a file beside its place and move it there, synced to disk, when the block succeeds.

    A file that was there before stays as it was until then.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in the folder survive a loss of power, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def pieces(file: IO[bytes], size: int = 1 << 20) -> Iterator[bytes]:
    """Read a file piece by piece; an empty file is one empty piece.

    Args:
        file: where to read.
        size: bytes of a piece.
    """
    piece = file.read(size)
    yield piece
    while piece := file.read(size):
        yield piece
