"""A clock that a test sets, in place of the module ``time``."""

from dataclasses import dataclass


@dataclass
class Clock:
    """Stands still until the test moves it.

    Attributes:
        now: Of ``time.monotonic``, in s.
        processor: Of ``time.thread_time``, in s.
    """

    now: float = 1000.0
    processor: float = 0.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.processor
