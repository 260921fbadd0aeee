"""Files that appear when they are complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def write_whole(path: Path) -> Iterator[IO[bytes]]:
    """Write a temporary file, and rename it to ``path`` when the block succeeds.

    The file is synced to disk before. Until then an older file at ``path`` stays unchanged.
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
    """Make renames in the folder survive a power failure, if the system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_pieces(file: IO[bytes], size: int = 1 << 20) -> Iterator[bytes]:
    """Read a file in pieces; an empty file is one empty piece.

    Args:
        file: file to read.
        size: bytes of a piece.
    """
    piece = file.read(size)
    yield piece
    while piece := file.read(size):
        yield piece
