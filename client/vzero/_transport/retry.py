"""Decisions about retries: whether to send again, and when."""

import random

from vzero._transport.deadline import Deadline
from vzero.errors import (
    DeadlineExceeded,
    Internal,
    Overloaded,
    Unavailable,
    VzeroError,
)


class Backoff:
    """Pauses between attempts: exponential, with jitter so that clients do not retry together.

    The pause before attempt n is uniform in [c/2, c] with c = min(longest, first * 2**n).
    """

    def __init__(self, first: float = 0.1, longest: float = 5.0) -> None:
        """Start with the shortest pause.

        Args:
            first: ceiling of the first pause, seconds.
            longest: ceiling of every pause, seconds.
        """
        self._first = first
        self._longest = longest
        self.attempts = 0

    def pause(self, at_least: float | None = None) -> float:
        """Count a failed attempt and return the seconds to wait before the next one.

        Args:
            at_least: wait that the server asked for, seconds.
        """
        ceiling = min(self._longest, self._first * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return max(at_least or 0.0, ceiling * random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """Start again with the shortest pause, after a success."""
        self.attempts = 0


def is_connection_error(error: VzeroError) -> bool:
    """Tell whether the connection or a stopping server caused the error, so that a retry may work.

    Proxies and broken HTTP/2 streams answer with several codes. An INTERNAL error of the server
    itself carries an error id and is not of this kind.
    """
    if isinstance(error, Unavailable | DeadlineExceeded):
        return True
    if isinstance(error, Internal):
        return error.error_id is None
    return error.code is not None and error.code.name in {"UNKNOWN", "CANCELLED", "ABORTED"}


def pause_before_retry(error: VzeroError, backoff: Backoff, deadline: Deadline) -> float:
    """Return the seconds to wait before outcomes are sent again within one call.

    Raises:
        VzeroError: the error itself, if a retry does not help or would be too late.
    """
    is_full = isinstance(error, Overloaded) and error.retry_after is not None
    if not (is_full or is_connection_error(error)):
        raise error
    pause = backoff.pause(error.retry_after if isinstance(error, Overloaded) else None)
    if pause >= deadline.left():
        raise error
    return pause
