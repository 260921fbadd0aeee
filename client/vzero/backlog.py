r"""Chunks of outcomes between ``add`` and the acknowledgement: gathered, ordered, spooled.

The backlog does no waiting and no networking, so the blocking and the asyncio stream share it.
Chunks leave in the order they were made:

    open -> sealed in memory ------------------> in flight -> acknowledged
                   \-> kept in the spool folder ->/

Chunks in the spool folder are always older than those that are sealed in memory.
"""

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from vzero.errors import SpoolError
from vzero.requests import MAX_BYTES
from vzero.spool import Spool
from vzero.v1 import value_pb2


@dataclass(slots=True)
class Chunk:
    """Some outcomes that are sent, acknowledged and kept together.

    Attributes:
        number: place in the order of sending.
        outcomes: how many it holds.
        request: its message; None while it is only in the spool folder.
        path: its file in the spool folder; None when it is only in memory.
    """

    number: int
    outcomes: int
    request: value_pb2.UpdateContextRequest | None = None
    path: Path | None = None


class Backlog:
    """Outcomes that the server has not acknowledged.

    Attributes:
        away: the last connection failed and nothing was acknowledged since.
        spool_error: why the spool folder took no chunk lately; None when it did.
        width: chunks that may be in flight at once.
    """

    def __init__(
        self,
        policy_id: str,
        *,
        chunk_size: int,
        flush_interval: float,
        window: int,
        spool: Spool | None,
    ) -> None:
        """Start with what an earlier stream left in the spool folder.

        Args:
            policy_id: policy of the outcomes that are added.
            chunk_size: a chunk is sealed when it holds this many outcomes.
            flush_interval: or when its first outcome has waited this long, seconds.
            window: chunks that may be unacknowledged in memory, and in flight, at once.
            spool: where chunks go while the server is away; None: nowhere.
        """
        self._policy_id = policy_id
        self._chunk_size = chunk_size
        self._flush_interval = flush_interval
        self._window = window
        self._spool = spool
        self._open: list[value_pb2.Outcome] = []
        self._open_bytes = 0
        self._opened = 0.0
        self._memory: deque[Chunk] = deque()
        self._kept: deque[Chunk] = deque()
        self._flying: deque[Chunk] = deque()
        self._moving: Chunk | None = None
        self.away = False
        self.spool_error: SpoolError | None = None
        self.width = window
        for entry in spool.entries() if spool else ():
            self._kept.append(Chunk(entry.number, entry.outcomes, path=entry.path))
        self._next = self._kept[-1].number + 1 if self._kept else 0
        self.pending = sum(chunk.outcomes for chunk in self._kept)
        """Outcomes added or found, and not acknowledged."""

    @property
    def in_flight(self) -> int:
        """Chunks sent and not acknowledged."""
        return len(self._flying)

    @property
    def oldest(self) -> int:
        """Number of the oldest chunk not acknowledged; all before it are."""
        for chunks in (self._flying, self._kept, (self._moving,), self._memory):
            for chunk in chunks:
                if chunk is not None:
                    return chunk.number
        return self._next

    @property
    def newest(self) -> int:
        """Number of the next chunk to be sealed."""
        return self._next

    @property
    def sendable(self) -> bool:
        """Whether `take` finds a chunk."""
        ready = self._kept or (self._memory and self._moving is None)
        return bool(ready) and len(self._flying) < self.width

    @property
    def unsent(self) -> bool:
        """Whether a sealed chunk waits to be sent."""
        return bool(self._memory or self._kept or self._moving)

    @property
    def has_room(self) -> bool:
        """Whether another outcome may be added: few enough chunks are in memory only."""
        flying = sum(chunk.path is None for chunk in self._flying)
        return flying + len(self._memory) + (self._moving is not None) < self._window

    @property
    def exposed(self) -> bool:
        """Whether some outcomes are in memory only, and lost when the process dies."""
        flying = any(chunk.path is None for chunk in self._flying)
        return bool(self._open or self._memory or self._moving or flying)

    @property
    def seal_in(self) -> float | None:
        """Seconds until the open chunk has waited long enough; None when it is empty."""
        if not self._open:
            return None
        return max(0.0, self._opened + self._flush_interval - time.monotonic())

    def add(self, outcome: value_pb2.Outcome) -> bool:
        """Take an outcome; return whether that sealed a chunk."""
        if not self._open:
            self._opened = time.monotonic()
        self._open.append(outcome)
        self._open_bytes += outcome.ByteSize()
        self.pending += 1
        if len(self._open) >= self._chunk_size or self._open_bytes >= MAX_BYTES:
            self.seal()
            return True
        return False

    def seal(self) -> None:
        """Close the open chunk, if it holds anything."""
        if not self._open:
            return
        request = value_pb2.UpdateContextRequest(policy_id=self._policy_id, outcomes=self._open)
        self._memory.append(Chunk(self._next, len(self._open), request))
        self._next += 1
        self._open = []
        self._open_bytes = 0

    def take(self) -> value_pb2.UpdateContextRequest | None:
        """Return the next chunk to send, now in flight; None when there is none or no room."""
        while len(self._flying) < self.width:
            if self._kept:
                chunk = self._kept.popleft()
                assert self._spool is not None and chunk.path is not None
                chunk.request = chunk.request or self._spool.read(chunk.path)
                if chunk.request is None:
                    self.pending -= chunk.outcomes
                    continue
            elif self._memory and self._moving is None:
                chunk = self._memory.popleft()
            else:
                return None
            self._flying.append(chunk)
            return chunk.request
        return None

    def acked(self) -> None:
        """Forget the oldest chunk in flight: the server has stored it."""
        chunk = self._flying.popleft()
        self.pending -= chunk.outcomes
        self.away = False
        self.spool_error = None
        if chunk.path is not None and self._spool is not None:
            self._spool.remove(chunk.path)

    def reject(self) -> None:
        """Drop the oldest chunk in flight: the server will never take it."""
        chunk = self._flying.popleft()
        self.pending -= chunk.outcomes
        if chunk.path is not None and self._spool is not None:
            self._spool.set_aside(chunk.path, "rejected")

    def rewind(self) -> None:
        """Put the chunks in flight back: the connection ended before they were acknowledged."""
        self.spool_error = None
        while self._flying:
            chunk = self._flying.pop()
            if chunk.path is None:
                self._memory.appendleft(chunk)
            else:
                chunk.request = None
                self._kept.appendleft(chunk)

    def to_spool(self) -> Chunk | None:
        """Return a chunk that should go to the spool folder now; `spooled` must follow.

        That is so while the server is away, and later while older chunks in the folder are still
        being delivered.
        """
        if self.spool_error is not None:
            return None
        behind = self.away or bool(self._kept)
        passed = any(chunk.path is None for chunk in self._flying)
        if self._spool is None or self._moving or passed or not (behind and self._memory):
            return None
        self._moving = self._memory.popleft()
        return self._moving

    def spooled(self, path: Path | None, error: SpoolError | None = None) -> None:
        """Finish what `to_spool` began.

        Args:
            path: where the chunk is now; None when it could not be written.
            error: why not.
        """
        chunk = self._moving
        assert chunk is not None
        self._moving = None
        self.spool_error = error
        if path is None:
            self._memory.appendleft(chunk)
            return
        chunk.path, chunk.request = path, None
        self._kept.append(chunk)
