"""Network-free core of a stream: it buffers outcomes, counts acknowledgements and judges errors.

The core owns the send buffer and the spool folder. It never waits and never calls the server. The
blocking and the asyncio stream do, and report the results to the core.
"""

import logging
from pathlib import Path

from vzero._checks import check_count, check_name
from vzero._messages.batches import MAX_ITEMS
from vzero._messages.policy_replies import read_ack
from vzero._stream.chunk import Chunk
from vzero._stream.send_buffer import SendBuffer
from vzero._stream.spool import DEFAULT_BYTES, Spool
from vzero._transport.retry import Backoff, is_connection_error
from vzero.errors import (
    Internal,
    InvalidArgument,
    Overloaded,
    SpoolError,
    Unavailable,
    Undelivered,
    VzeroError,
)
from vzero.v1 import value_pb2
from vzero.values import Ack

logger = logging.getLogger(__name__)

_MAX_INTERNAL_ERRORS = 5


class StreamCore:
    """State of a stream.

    Attributes:
        policy_id: policy of the outcomes that are added.
        buffer: outcomes without acknowledgement.
        ack: newest acknowledgement of the stream's policy.
        accepted: outcomes stored by this stream, those left by earlier streams included.
        duplicates: outcomes that the server had stored before.
        failure: error that ended the stream, such as `PermissionDenied`.
        last_error: error that ended the last call; None after an acknowledgement.
    """

    def __init__(
        self,
        policy_id: str,
        *,
        chunk_size: int = 256,
        flush_interval: float = 0.5,
        window: int = 32,
        spool_dir: str | Path | None = None,
        spool_bytes: int = DEFAULT_BYTES,
        step: int | None = None,
    ) -> None:
        """Check the arguments of a stream and open its spool folder; see `Client.stream`.

        Raises:
            InvalidArgument: an argument is out of range.
            SpoolError: another stream uses the folder, or it cannot be written.
        """
        self.policy_id = check_name("policy_id", policy_id)
        if not 1 <= chunk_size <= MAX_ITEMS:
            raise InvalidArgument.of("chunk_size", f"must be in [1, {MAX_ITEMS}], not {chunk_size}")
        if not window >= 1:
            raise InvalidArgument.of("window", f"must be at least 1, not {window}")
        if not flush_interval > 0:
            raise InvalidArgument.of("flush_interval", f"must be positive, not {flush_interval}")
        self._step = None if step is None else check_count("step", step)
        self._window = window
        self._spool = Spool(Path(spool_dir), spool_bytes) if spool_dir is not None else None
        self.buffer = SendBuffer(
            policy_id,
            chunk_size=chunk_size,
            flush_interval=flush_interval,
            window=window,
            spool=self._spool,
        )
        self._backoff = Backoff()
        # Chunks in flight when the server rejected one of them; they are sent again one by one.
        self._suspects = 0
        self._rejection: InvalidArgument | None = None
        self.ack: Ack | None = None
        self.accepted = 0
        self.duplicates = 0
        self.failure: VzeroError | None = None
        self.last_error: VzeroError | None = None

    @property
    def has_error(self) -> bool:
        """Whether `check` would raise an error."""
        return self.failure is not None or self._rejection is not None

    def step_or_default(self, step: int | None) -> int | None:
        """Return the step of an outcome, or that of the stream if it has none."""
        return self._step if step is None else step

    def check(self) -> None:
        """Raise the error of a rejected chunk, once, or the error that ended the stream."""
        if self._rejection is not None:
            rejection, self._rejection = self._rejection, None
            raise rejection
        if self.failure is not None:
            raise self.failure

    def no_room_error(self) -> VzeroError:
        """Return the reason why no further outcome can be added."""
        return self.buffer.spool_error or self.undelivered_error()

    def undelivered_error(self) -> Undelivered:
        """Return the error of outcomes that were not acknowledged in time."""
        all_spooled = self._spool is not None and not self.buffer.has_unspooled
        folder = self._spool.folder if self._spool is not None and all_spooled else None
        return Undelivered(self.buffer.pending, folder, self.last_error)

    def acknowledge(self, reply: value_pb2.UpdateContextResponse) -> None:
        """Record the acknowledgement of the oldest chunk in flight.

        Raises:
            Internal: no chunk was in flight.
        """
        if not self.buffer.in_flight:
            raise Internal("the server acknowledged more chunks than were sent")
        self.buffer.acknowledge()
        self.accepted += reply.accepted
        self.duplicates += reply.duplicates
        if reply.policy_id == self.policy_id:
            self.ack = read_ack(reply)
        self.last_error = None
        self._backoff.reset()
        if self._suspects:
            self._suspects -= 1
            self.buffer.max_in_flight = 1 if self._suspects else self._window

    def call_ended(self, error: VzeroError | None) -> float:
        """Decide what follows the end of a call.

        Args:
            error: reason of the end; None if the server ended the call with status OK.

        Returns:
            Pause before the next call, seconds. If there must be none, `failure` is set.
        """
        buffer = self.buffer
        if isinstance(error, InvalidArgument) and buffer.in_flight:
            return self._find_rejected_chunk(error)
        if error is None:
            if not buffer.in_flight:
                return 0.0
            error = Unavailable("the server ended the stream early")
        buffer.rewind()
        self.last_error = error
        can_retry = (
            is_connection_error(error)
            or isinstance(error, Overloaded)
            or (isinstance(error, Internal) and self._backoff.attempts < _MAX_INTERNAL_ERRORS)
        )
        if not can_retry:
            self.failure = error
            return 0.0
        buffer.disconnected = True
        return self._backoff.pause(error.retry_after if isinstance(error, Overloaded) else None)

    def store(self, chunk: Chunk) -> tuple[Path | None, SpoolError | None]:
        """Write a chunk to the spool folder.

        It blocks on the disk and changes no state of the stream.

        Returns:
            The arguments of `SendBuffer.finish_spooling`.
        """
        assert self._spool is not None and chunk.request is not None
        try:
            return self._spool.write(chunk.number, chunk.request), None
        except SpoolError as error:
            logger.warning("%s", error)
            return None, error

    def settle(self) -> None:
        """End the stream: write the remaining chunks to the spool folder and unlock it.

        Raises:
            VzeroError: a chunk was rejected, the stream failed, or outcomes are lost.
        """
        buffer = self.buffer
        buffer.rewind()
        buffer.disconnected = True
        while chunk := buffer.start_spooling():
            buffer.finish_spooling(*self.store(chunk))
        if self._spool is not None:
            self._spool.close()
        self.check()
        if not buffer.pending:
            return
        undelivered = self.undelivered_error()
        if undelivered.spooled is None:
            raise undelivered
        logger.warning("%s", undelivered)

    def _find_rejected_chunk(self, error: InvalidArgument) -> float:
        """Drop the chunk in flight if it is alone; otherwise send all of them one by one."""
        if self.buffer.in_flight == 1:
            self.buffer.drop_rejected()
            self.buffer.max_in_flight = self._window
            self._suspects = 0
            self._rejection = error
        else:
            self._suspects = self.buffer.in_flight
            self.buffer.max_in_flight = 1
            self.buffer.rewind()
        return 0.0
