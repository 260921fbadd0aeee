"""Deadlines of calls and waits."""

import time


class Deadline:
    """A point in time, on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        """Set the deadline.

        Args:
            seconds: time from now.
        """
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until the deadline, at least 0."""
        return max(0.0, self._end - time.monotonic())
