"""A folder that keeps chunks of outcomes while the server is unreachable.

Each chunk is one file, ``<number>-<outcomes>.chunk``: a msgpack map with the protobuf request and
its checksum. A file gets this name when it is complete and on disk, so a crash leaves no partial
chunk. Numbers rise, so names sort in the order of sending.
"""

import logging
import os
import re
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgpack
from google.protobuf.message import DecodeError

from vzero._files import sync_folder, write_whole
from vzero.errors import SpoolError, SpoolFull
from vzero.v1 import value_pb2

logger = logging.getLogger(__name__)

DEFAULT_BYTES = 1 << 30
_FORMAT = 1
_NAME = re.compile(r"(\d{20})-(\d+)\.chunk")


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk in the folder.

    Attributes:
        number: position in the order of sending.
        outcomes: number of its outcomes.
        path: its file.
    """

    number: int
    outcomes: int
    path: Path


class Spool:
    """A folder of chunks, used by one stream at a time. Methods may be called from any thread."""

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_BYTES) -> None:
        """Lock the folder. It is created if it does not exist.

        Args:
            folder: folder of the chunks, which may hold some of an earlier stream.
            max_bytes: most bytes of all files together.

        Raises:
            SpoolError: another stream uses the folder, or it cannot be written.
        """
        self.folder = folder
        self._max_bytes = max_bytes
        self._bytes_lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_file: IO[bytes] | None = (folder / "lock").open("ab")
        except OSError as error:
            raise SpoolError(f"cannot use the spool folder {folder}: {error}") from error
        try:
            _lock(self._lock_file)
        except OSError as error:
            self._lock_file.close()
            raise SpoolError(
                f"the spool folder {folder} is used by another stream: close it, or name another "
                "folder"
            ) from error
        for unfinished in folder.glob("*.partial"):
            unfinished.unlink()
        self._bytes = sum(entry.path.stat().st_size for entry in self.entries())

    def entries(self) -> list[Entry]:
        """Return the chunks in the folder, in the order of sending."""
        return sorted(self._entries(), key=lambda entry: entry.number)

    def write(self, number: int, request: value_pb2.UpdateContextRequest) -> Path:
        """Write a chunk; on return it is on disk.

        Args:
            number: position in the order of sending, not in use.
            request: message of the chunk.

        Raises:
            SpoolFull: the folder has no room for it.
            SpoolError: the file cannot be written.
        """
        body = request.SerializeToString()
        data: bytes = msgpack.packb({"format": _FORMAT, "crc32": zlib.crc32(body), "request": body})
        with self._bytes_lock:
            if self._bytes + len(data) > self._max_bytes:
                raise SpoolFull(
                    f"the spool folder {self.folder} is full: it holds {self._bytes:,} of "
                    f"{self._max_bytes:,} bytes and the next chunk has {len(data):,}; raise "
                    "spool_bytes, or wait until the server is reachable"
                )
            self._bytes += len(data)
        path = self.folder / f"{number:020d}-{len(request.outcomes)}.chunk"
        try:
            with write_whole(path) as file:
                file.write(data)
        except OSError as error:
            with self._bytes_lock:
                self._bytes -= len(data)
            raise SpoolError(f"cannot write to the spool folder {self.folder}: {error}") from error
        return path

    def read(self, path: Path) -> value_pb2.UpdateContextRequest | None:
        """Read a chunk. A damaged one is renamed and None is returned."""
        try:
            fields: Any = msgpack.unpackb(path.read_bytes())
            body = fields["request"]
            if fields["format"] != _FORMAT or fields["crc32"] != zlib.crc32(body):
                raise ValueError("checksum or format differ")
            return value_pb2.UpdateContextRequest.FromString(body)
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            DecodeError,
            msgpack.UnpackException,
        ) as error:
            logger.warning("the spooled chunk %s is damaged and not sent: %s", path, error)
            self.set_aside(path, "damaged")
            return None

    def remove(self, path: Path) -> None:
        """Remove a chunk that the server has stored."""
        self._uncount(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            # The next stream sends it again; the server counts duplicates.
            logger.warning("cannot remove %s: %s", path, error)

    def set_aside(self, path: Path, suffix: str) -> None:
        """Rename a chunk that cannot be delivered, so that no stream sends it.

        Args:
            path: its file.
            suffix: suffix of its new name, such as ``damaged``.
        """
        self._uncount(path)
        try:
            path.rename(path.with_suffix(f".{suffix}"))
        except OSError as error:
            logger.warning("cannot rename %s: %s", path, error)

    def close(self) -> None:
        """Unlock the folder for another stream."""
        if self._lock_file is not None:
            sync_folder(self.folder)
            self._lock_file.close()
            self._lock_file = None

    def _entries(self) -> Iterator[Entry]:
        for path in self.folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                yield Entry(int(match[1]), int(match[2]), path)

    def _uncount(self, path: Path) -> None:
        try:
            size = path.stat().st_size
        except OSError:
            return
        with self._bytes_lock:
            self._bytes -= size


if os.name == "nt":  # pragma: no cover
    import msvcrt

    def _lock(file: IO[bytes]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]

else:
    import fcntl

    def _lock(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
