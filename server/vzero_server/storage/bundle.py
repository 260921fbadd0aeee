"""Portable bundles: all outcomes of one policy as one stream of msgpack objects.

A header map, then lists of outcomes, then a footer map with the number of outcomes and a
BLAKE2b digest of every byte before it. Embeddings are left out: they belong to a model,
and whoever imports the bundle may run another.
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
# Outcomes in one list: what an import validates and appends at a time.
PIECE = 512

_DIGEST_BYTES = 16
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Header:
    """What a bundle says of itself: the policy and when it was exported (epoch seconds)."""

    policy_id: str
    exported_at: float


class BundleWriter:
    """Packs a bundle piece by piece; the caller sends or stores the bytes."""

    def __init__(self) -> None:
        self._hash = blake2b(digest_size=_DIGEST_BYTES)
        self._rows = 0

    def header(self, header: Header) -> bytes:
        """The first bytes."""
        return self._pack(
            {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "policy_id": header.policy_id,
                "exported_at": header.exported_at,
            }
        )

    def outcomes(self, outcomes: Iterable[Outcome]) -> bytes:
        """The bytes of further outcomes, at most ``PIECE``."""
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
        """The last bytes."""
        return self._pack({"rows": self._rows, "digest": self._hash.digest()})

    def _pack(self, item: object) -> bytes:
        data: bytes = msgpack.packb(item)
        self._hash.update(data)
        return data


def read_header(file: BinaryIO) -> Header:
    """Read the header of a bundle.

    Raises:
        BundleError: It is no bundle, or of a newer format version.
    """
    return _header(next(_objects(file), (None, b""))[0])


def read_pieces(file: BinaryIO) -> Iterator[list[Outcome]]:
    """Read the outcomes of a bundle in lists of up to ``PIECE``.

    Only when the last list has been taken is it certain that the bundle was whole.

    Raises:
        BundleError: The bundle is truncated, damaged, or of a newer format version.
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
        if not isinstance(item, list) or len(item) > PIECE:
            raise BundleError("the bundle is damaged: not a list of outcomes")
        digest.update(packed)
        piece = [_outcome(row) for row in item]
        rows += len(piece)
        yield piece
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
# Version 1 ended with the step.
_FEWEST_COLUMNS = 7


def _outcome(row: object) -> Outcome:
    if not isinstance(row, list) or not _FEWEST_COLUMNS <= len(row) <= len(_COLUMNS):
        raise BundleError("the bundle is damaged: an outcome has the wrong number of fields")
    for value, (name, types) in zip(row, _COLUMNS, strict=False):
        if not isinstance(value, types) or isinstance(value, bool):
            raise BundleError(f"the bundle is damaged: field {name} of an outcome")
    return Outcome(*row)


def _objects(file: BinaryIO) -> Iterator[tuple[object, bytes]]:
    """The msgpack objects of a file from its beginning, each with its bytes."""
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
