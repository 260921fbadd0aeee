"""Chunks of outcomes."""

from dataclasses import dataclass
from pathlib import Path

from vzero.v1 import value_pb2


@dataclass(slots=True)
class Chunk:
    """Outcomes that are sent, acknowledged and spooled together.

    Attributes:
        number: position in the order of sending.
        outcomes: number of its outcomes.
        request: its message; None while it is only in the spool folder.
        path: its file in the spool folder; None if it is not there.
    """

    number: int
    outcomes: int
    request: value_pb2.UpdateContextRequest | None = None
    path: Path | None = None
