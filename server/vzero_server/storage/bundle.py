"""Portable bundles: all outcomes of one policy as one stream of msgpack objects.

A bundle is a header map, lists of outcomes, and a footer map with the number of outcomes and a
BLAKE2b digest of all bytes before it. Embeddings are left out: they belong to one model, and the
importing server may run another.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import BinaryIO

import msgpack

from vzero_server.errors import BundleError
from vzero_server.storage.records import Outcome

FORMAT = "vzero.context"
FORMAT_VERSION = 2
BATCH_SIZE = 512
"""Most outcomes in one list of a bundle."""

_DIGEST_BYTES = 16
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a bundle: the policy, and the time of the export in epoch seconds."""

    policy_id: str
    exported_at: float


class BundleWriter:
    """Packs a bundle in parts; the caller sends or stores the bytes."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=_DIGEST_BYTES)
        self._rows = 0

    def header(self, header: Header) -> bytes:
        """Return the first bytes of the bundle."""
        return self._pack(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "policy_id": header.policy_id,
                "exported_at": header.exported_at,
            }
        )

    def outcomes(self, outcomes: Iterable[Outcome]) -> bytes:
        """Return the bytes of further outcomes, at most ``BATCH_SIZE``."""
        rows = [
            [
                o.outcome_id,
                o.prompt,
                o.reward,
                o.rollouts,
                o.observed_at,
                o.cost,
                o.step,
                o.tokens,
                o.decision_id,
            ]
            for o in outcomes
        ]
        self._rows += len(rows)
        return self._pack(rows)

    def footer(self) -> bytes:
        """Return the last bytes of the bundle."""
        return self._pack({"rows": self._rows, "digest": self._hash.digest()})

    def _pack(self, item: object) -> bytes:
        data: bytes = msgpack.packb(item)
        self._hash.update(data)
        return data


def read_header(file: BinaryIO) -> Header:
    """Read the header of a bundle.

    Raises:
        BundleError: The file is not a bundle, or has a newer format version.
    """
    return _header(next(_objects(file), (None, b""))[0])


def read_batches(file: BinaryIO) -> Iterator[list[Outcome]]:
    """Read the outcomes of a bundle in lists of up to ``BATCH_SIZE``.

    The digest is at the end: until the last list was read, the bundle may be damaged.

    Raises:
        BundleError: The bundle is truncated, damaged, or has a newer format version.
    """
    objects = _objects(file)
    first, packed = next(objects, (None, b""))
    _header(first)
    digest, rows = blake2b(packed, digest_size=_DIGEST_BYTES), 0
    for item, packed in objects:
        if isinstance(item, dict):
            if item.get("rows") != rows or item.get("digest") != digest.digest():
                raise BundleError("the bundle is damaged: its digest does not match")
            if next(objects, None) is not None:
                raise BundleError("the bundle is damaged: it goes on after its end")
            return
        if not isinstance(item, list) or len(item) > BATCH_SIZE:
            raise BundleError("the bundle is damaged: not a list of outcomes")
        digest.update(packed)
        batch = [_outcome(row) for row in item]
        rows += len(batch)
        yield batch
    raise BundleError(f"the bundle is truncated after {rows} outcomes")


def _header(item: object) -> Header:
    if not isinstance(item, dict) or item.get("format") != FORMAT:
        raise BundleError("not a vzero context bundle")
    version = item.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise BundleError(
            f"the bundle has format version {version}; this server reads up to {FORMAT_VERSION}"
        )
    policy_id, exported_at = item.get("policy_id"), item.get("exported_at")
    if not isinstance(policy_id, str) or not isinstance(exported_at, float):
        raise BundleError("the bundle is damaged: its header lacks a field")
    return Header(policy_id, exported_at)


_COLUMNS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("outcome_id", (str,)),
    ("prompt", (str,)),
    ("reward", (float, int)),
    ("rollouts", (int,)),
    ("observed_at", (float, int)),
    ("cost", (float, int, type(None))),
    ("step", (int, type(None))),
    ("tokens", (float, int, type(None))),
    ("decision_id", (str, type(None))),
)
# Format version 1 ends with the step.
_MIN_COLUMNS = 7


def _outcome(row: object) -> Outcome:
    if not isinstance(row, list) or not _MIN_COLUMNS <= len(row) <= len(_COLUMNS):
        raise BundleError("the bundle is damaged: an outcome has the wrong number of fields")
    for value, (name, types) in zip(row, _COLUMNS, strict=False):
        if not isinstance(value, types) or isinstance(value, bool):
            raise BundleError(f"the bundle is damaged: field {name} of an outcome")
    return Outcome(*row)


def _objects(file: BinaryIO) -> Iterator[tuple[object, bytes]]:
    """Yield the msgpack objects of a file, each with its bytes."""
    file.seek(0)
    unpacker = msgpack.Unpacker(max_buffer_size=1 << 30)
    packed = bytearray()
    start = 0
    while data := file.read(_READ_BYTES):
        unpacker.feed(data)
        packed += data
        while True:
            try:
                item = unpacker.unpack()
            except msgpack.OutOfData:
                break
            except (ValueError, msgpack.UnpackException) as error:
                raise BundleError(f"the bundle is damaged: {error}") from error
            end = unpacker.tell()
            size = end - start
            yield item, bytes(packed[:size])
            del packed[:size]
            start = end
