"""What both kinds of stream do alike: take outcomes, count acknowledgements, judge errors.

A courier owns the backlog and the spool folder. It never waits and never calls the server; the
blocking and the asyncio stream do, and tell the courier what came of it.
"""

import logging
from pathlib import Path

from vzero import outcome, replies
from vzero.backlog import Backlog, Chunk
from vzero.errors import (
    Internal,
    InvalidArgument,
    Overloaded,
    SpoolError,
    Unavailable,
    Undelivered,
    VzeroError,
)
from vzero.requests import MAX_ITEMS, check_policy
from vzero.retry import Backoff, broken_connection
from vzero.spool import DEFAULT_BYTES, Spool
from vzero.v1 import value_pb2
from vzero.values import Ack

logger = logging.getLogger(__name__)

_INTERNAL_ATTEMPTS = 5


class Courier:
    """Outcomes on their way to the server.

    Attributes:
        backlog: the outcomes not acknowledged.
        ack: newest acknowledgement of the stream's policy.
        accepted: outcomes stored by this stream, leftovers of earlier ones included.
        duplicates: outcomes the server had stored before.
        failed: the stream is over because of this error, such as `PermissionDenied`.
        last_error: why the last connection ended; None after an acknowledgement.
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
        """Check the options of a stream and open its spool folder.

        Args:
            policy_id: policy of the outcomes.
            chunk_size: outcomes sent and acknowledged together, 1 to 4096.
            flush_interval: longest time an outcome waits for its chunk to fill, seconds.
            window: chunks that may be unacknowledged at once, at least 1.
            spool_dir: folder that keeps chunks while the server is away; None: memory only.
            spool_bytes: most bytes the folder may hold.
            step: step of the outcomes that name none.

        Raises:
            InvalidArgument: an option is out of range.
            SpoolError: another stream uses the folder, or it cannot be written.
        """
        self.policy_id = check_policy(policy_id)
        if not 1 <= chunk_size <= MAX_ITEMS:
            raise InvalidArgument.of("chunk_size", f"must be in [1, {MAX_ITEMS}], not {chunk_size}")
        if not window >= 1:
            raise InvalidArgument.of("window", f"must be at least 1, not {window}")
        if not flush_interval > 0:
            raise InvalidArgument.of("flush_interval", f"must be positive, not {flush_interval}")
        self._step = None if step is None else outcome.check_count("step", step)
        self._window = window
        self._spool = Spool(Path(spool_dir), spool_bytes) if spool_dir is not None else None
        self.backlog = Backlog(
            policy_id,
            chunk_size=chunk_size,
            flush_interval=flush_interval,
            window=window,
            spool=self._spool,
        )
        self._backoff = Backoff()
        self._suspects = 0
        self._rejection: InvalidArgument | None = None
        self.ack: Ack | None = None
        self.accepted = 0
        self.duplicates = 0
        self.failed: VzeroError | None = None
        self.last_error: VzeroError | None = None

    @property
    def stuck(self) -> bool:
        """Whether a caller who waits has an error to see."""
        return self.failed is not None or self._rejection is not None

    def step(self, step: int | None) -> int | None:
        """Return the step of an outcome: its own, or that of the stream."""
        return self._step if step is None else step

    def check(self) -> None:
        """Raise what the caller has to know: a rejected chunk (once) or the end of the stream."""
        if self._rejection is not None:
            rejection, self._rejection = self._rejection, None
            raise rejection
        if self.failed is not None:
            raise self.failed

    def no_room(self) -> VzeroError:
        """Return why no further outcome can be taken."""
        return self.backlog.spool_error or self.undelivered()

    def undelivered(self) -> Undelivered:
        """Return the error of outcomes that were not acknowledged in time."""
        folder = self._spool.folder if self._spool and not self.backlog.exposed else None
        return Undelivered(self.backlog.pending, folder, self.last_error)

    def acked(self, response: value_pb2.UpdateContextResponse) -> None:
        """Take note of an acknowledgement.

        Raises:
            Internal: nothing was in flight.
        """
        if not self.backlog.in_flight:
            raise Internal("the server acknowledged more chunks than were sent")
        self.backlog.acked()
        self.accepted += response.accepted
        self.duplicates += response.duplicates
        if response.policy_id == self.policy_id:
            self.ack = replies.ack(response)
        self.last_error = None
        self._backoff.reset()
        if self._suspects:
            self._suspects -= 1
            self.backlog.width = 1 if self._suspects else self._window

    def ended(self, error: VzeroError | None) -> float:
        """Judge the end of a connection.

        Args:
            error: why it ended; None when the server ended it in good order.

        Returns:
            Seconds to wait before the next connection. `failed` is set when there must be none.
        """
        backlog = self.backlog
        if isinstance(error, InvalidArgument) and backlog.in_flight:
            return self._reject(error)
        if error is None:
            if not backlog.in_flight:
                return 0.0
            error = Unavailable("the server ended the stream early")
        backlog.rewind()
        self.last_error = error
        again = (
            broken_connection(error)
            or isinstance(error, Overloaded)
            or (isinstance(error, Internal) and self._backoff.attempts < _INTERNAL_ATTEMPTS)
        )
        if not again:
            self.failed = error
            return 0.0
        backlog.away = True
        return self._backoff.pause(error.retry_after if isinstance(error, Overloaded) else None)

    def store(self, chunk: Chunk) -> tuple[Path | None, SpoolError | None]:
        """Write a chunk to the spool folder. Blocks on the disk; touches no state of the stream.

        Returns:
            The arguments of `Backlog.spooled`.
        """
        assert self._spool is not None and chunk.request is not None
        try:
            return self._spool.write(chunk.number, chunk.request), None
        except SpoolError as error:
            logger.warning("%s", error)
            return None, error

    def settle(self) -> None:
        """End the stream: keep what is left in the spool folder and let go of it.

        Raises:
            VzeroError: a chunk was rejected, the stream failed, or outcomes are lost.
        """
        backlog = self.backlog
        backlog.rewind()
        backlog.away = True
        while chunk := backlog.to_spool():
            backlog.spooled(*self.store(chunk))
        if self._spool is not None:
            self._spool.close()
        self.check()
        if not backlog.pending:
            return
        undelivered = self.undelivered()
        if undelivered.spooled is None:
            raise undelivered
        logger.warning("%s", undelivered)

    def _reject(self, error: InvalidArgument) -> float:
        """Find the chunk that the server refuses: it is the one when it is alone in flight."""
        if self.backlog.in_flight == 1:
            self.backlog.reject()
            self.backlog.width = self._window
            self._suspects = 0
            self._rejection = error
        else:
            self._suspects = self.backlog.in_flight
            self.backlog.width = 1
            self.backlog.rewind()
        return 0.0
