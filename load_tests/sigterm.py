"""What SIGTERM does to a program that has started a server."""

import signal
import sys


def exit_cleanly() -> None:
    """Let SIGTERM unwind the program, so that no server and no folder stays behind."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
