"""When to try again, and until when."""

import random
import time

from vzero.errors import (
    DeadlineExceeded,
    Internal,
    Overloaded,
    Unavailable,
    VzeroError,
)


class Deadline:
    """A point in time by which something must be done."""

    def __init__(self, seconds: float) -> None:
        """Start the clock.

        Args:
            seconds: time from now.
        """
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self._end - time.monotonic())


class Backoff:
    """Pauses between attempts: exponential, with jitter, so that clients do not come back at once.

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
        """Count a failed attempt and return the seconds to wait before the next.

        Args:
            at_least: the server asks to wait this long.
        """
        ceiling = min(self._longest, self._first * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return max(at_least or 0.0, ceiling * random.uniform(0.5, 1.0))

    def reset(self) -> None:
        """An attempt succeeded."""
        self.attempts = 0


def broken_connection(error: VzeroError) -> bool:
    """Tell whether the error is of the connection, or of a server that stops: another try may do.

    Proxies and broken HTTP/2 streams answer with several codes; an INTERNAL error of the server
    itself carries an error id and is not of this kind.
    """
    if isinstance(error, Unavailable | DeadlineExceeded):
        return True
    if isinstance(error, Internal):
        return error.error_id is None
    return error.code is not None and error.code.name in {"UNKNOWN", "CANCELLED", "ABORTED"}


def pause_before_retry(error: VzeroError, backoff: Backoff, deadline: Deadline) -> float:
    """Return the seconds to wait before outcomes are sent again within a single call.

    Raises:
        VzeroError: the error itself, when another try does not help or would come too late.
    """
    full = isinstance(error, Overloaded) and error.retry_after is not None
    if not (full or broken_connection(error)):
        raise error
    pause = backoff.pause(error.retry_after if isinstance(error, Overloaded) else None)
    if pause >= deadline.left():
        raise error
    return pause
