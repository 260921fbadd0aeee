"""SIGTERM handling of programs that start a server."""

import signal
import sys


def exit_cleanly() -> None:
    """Turn SIGTERM into ``SystemExit``, so that servers are stopped and folders removed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
