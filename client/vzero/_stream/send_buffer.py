r"""Unsent and unacknowledged chunks of a stream.

The buffer never waits and never calls the server, so the blocking and the asyncio stream share it.
Chunks leave in the order in which they were made:

    open -> sealed ----------------------> in flight -> acknowledged
                  \-> in the spool folder ->/

Chunks in the spool folder are always older than sealed chunks.
"""

import time
from collections import deque
from pathlib import Path

from vzero._messages.batches import MAX_BYTES
from vzero._stream.chunk import Chunk
from vzero._stream.spool import Spool
from vzero.errors import SpoolError
from vzero.v1 import value_pb2


class SendBuffer:
    """Outcomes that the server has not acknowledged.

    Attributes:
        disconnected: whether the last call failed and nothing was acknowledged since.
        spool_error: error of the last write to the spool folder; None if it succeeded.
        max_in_flight: most chunks in flight at once.
        pending: outcomes without acknowledgement, added or left by an earlier stream.
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
        """Start with the chunks that an earlier stream left in the spool folder.

        Args:
            policy_id: policy of the outcomes that are added.
            chunk_size: number of outcomes at which a chunk is sealed.
            flush_interval: age of its oldest outcome at which a chunk is sealed, seconds.
            window: most unacknowledged chunks outside the spool folder, and most in flight.
            spool: folder for chunks while the server is unreachable; None: no folder.
        """
        self._policy_id = policy_id
        self._chunk_size = chunk_size
        self._flush_interval = flush_interval
        self._window = window
        self._spool = spool
        self._open: list[value_pb2.Outcome] = []
        self._open_bytes = 0
        self._opened_at = 0.0
        self._sealed: deque[Chunk] = deque()
        self._spooled: deque[Chunk] = deque()
        self._in_flight: deque[Chunk] = deque()
        self._spooling: Chunk | None = None
        self.disconnected = False
        self.spool_error: SpoolError | None = None
        self.max_in_flight = window
        for entry in spool.entries() if spool else ():
            self._spooled.append(Chunk(entry.number, entry.outcomes, path=entry.path))
        self._next_number = self._spooled[-1].number + 1 if self._spooled else 0
        self.pending = sum(chunk.outcomes for chunk in self._spooled)

    @property
    def in_flight(self) -> int:
        """Number of chunks that were sent and are not acknowledged."""
        return len(self._in_flight)

    @property
    def oldest_number(self) -> int:
        """Number of the oldest chunk without acknowledgement."""
        for chunks in (self._in_flight, self._spooled, (self._spooling,), self._sealed):
            for chunk in chunks:
                if chunk is not None:
                    return chunk.number
        return self._next_number

    @property
    def next_number(self) -> int:
        """Number of the next chunk that is sealed."""
        return self._next_number

    @property
    def can_send(self) -> bool:
        """Whether `take` would return a chunk."""
        is_ready = self._spooled or (self._sealed and self._spooling is None)
        return bool(is_ready) and len(self._in_flight) < self.max_in_flight

    @property
    def has_unsent(self) -> bool:
        """Whether a sealed chunk is not in flight."""
        return bool(self._sealed or self._spooled or self._spooling)

    @property
    def has_room(self) -> bool:
        """Whether another outcome may be added: few enough chunks are outside the spool folder."""
        in_flight = sum(chunk.path is None for chunk in self._in_flight)
        return in_flight + len(self._sealed) + (self._spooling is not None) < self._window

    @property
    def has_unspooled(self) -> bool:
        """Whether some outcomes are in no spool folder, and lost when the process ends."""
        in_flight = any(chunk.path is None for chunk in self._in_flight)
        return bool(self._open or self._sealed or self._spooling or in_flight)

    @property
    def seal_in(self) -> float | None:
        """Seconds until the open chunk is due to be sealed; None if it is empty."""
        if not self._open:
            return None
        return max(0.0, self._opened_at + self._flush_interval - time.monotonic())

    def add(self, outcome: value_pb2.Outcome) -> bool:
        """Add an outcome to the open chunk; return whether that sealed it."""
        if not self._open:
            self._opened_at = time.monotonic()
        self._open.append(outcome)
        self._open_bytes += outcome.ByteSize()
        self.pending += 1
        if len(self._open) >= self._chunk_size or self._open_bytes >= MAX_BYTES:
            self.seal()
            return True
        return False

    def seal(self) -> None:
        """Close the open chunk, unless it is empty."""
        if not self._open:
            return
        request = value_pb2.UpdateContextRequest(policy_id=self._policy_id, outcomes=self._open)
        self._sealed.append(Chunk(self._next_number, len(self._open), request))
        self._next_number += 1
        self._open = []
        self._open_bytes = 0

    def take(self) -> value_pb2.UpdateContextRequest | None:
        """Move the next chunk in flight and return its request; None if there is none or no room.

        A damaged chunk of the spool folder is skipped.
        """
        while len(self._in_flight) < self.max_in_flight:
            if self._spooled:
                chunk = self._spooled.popleft()
                assert self._spool is not None and chunk.path is not None
                chunk.request = chunk.request or self._spool.read(chunk.path)
                if chunk.request is None:
                    self.pending -= chunk.outcomes
                    continue
            elif self._sealed and self._spooling is None:
                chunk = self._sealed.popleft()
            else:
                return None
            self._in_flight.append(chunk)
            return chunk.request
        return None

    def acknowledge(self) -> None:
        """Remove the oldest chunk in flight: the server has stored it."""
        chunk = self._in_flight.popleft()
        self.pending -= chunk.outcomes
        self.disconnected = False
        self.spool_error = None
        if chunk.path is not None and self._spool is not None:
            self._spool.remove(chunk.path)

    def drop_rejected(self) -> None:
        """Remove the oldest chunk in flight: the server has rejected it."""
        chunk = self._in_flight.popleft()
        self.pending -= chunk.outcomes
        if chunk.path is not None and self._spool is not None:
            self._spool.set_aside(chunk.path, "rejected")

    def rewind(self) -> None:
        """Put all chunks in flight back: the call ended before they were acknowledged."""
        self.spool_error = None
        while self._in_flight:
            chunk = self._in_flight.pop()
            if chunk.path is None:
                self._sealed.appendleft(chunk)
            else:
                chunk.request = None
                self._spooled.appendleft(chunk)

    def start_spooling(self) -> Chunk | None:
        """Return a chunk that is due for the spool folder; `finish_spooling` must follow.

        Chunks are due while the server is unreachable, and after that while older chunks are still
        in the folder.
        """
        if self.spool_error is not None:
            return None
        is_due = (self.disconnected or bool(self._spooled)) and bool(self._sealed)
        older_in_flight = any(chunk.path is None for chunk in self._in_flight)
        if self._spool is None or self._spooling or older_in_flight or not is_due:
            return None
        self._spooling = self._sealed.popleft()
        return self._spooling

    def finish_spooling(self, path: Path | None, error: SpoolError | None = None) -> None:
        """Record the result of writing the chunk that `start_spooling` returned.

        Args:
            path: file of the chunk; None if it could not be written.
            error: reason of the failure.
        """
        chunk = self._spooling
        assert chunk is not None
        self._spooling = None
        self.spool_error = error
        if path is None:
            self._sealed.appendleft(chunk)
            return
        chunk.path, chunk.request = path, None
        self._spooled.append(chunk)
