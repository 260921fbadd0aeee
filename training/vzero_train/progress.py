"""Types of the functions that long work calls to report its progress."""

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

StageProgress = Callable[[str, int, int], None]
"""Called with the name of the running part, how much of it is done, and how much there is."""
