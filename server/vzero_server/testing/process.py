"""Starting the process of a local server, and what a process started must offer."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Command:
    """A Python module to run in a process of its own.

    Attributes:
        module: What ``python -m`` would run.
        arguments: Command line of the module.
        environment: All environment variables of the process.
        log: File that standard output and error are appended to.
    """

    module: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path


class ServerProcess(Protocol):
    """A running or ended process."""

    @property
    def pid(self) -> int:
        """The process id."""

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process ends and return its exit code.

        Raises:
            subprocess.TimeoutExpired: It still runs after ``timeout`` seconds.
        """

    def send_signal(self, sig: int) -> None:
        """Send a signal; does nothing once the process has ended."""


class Launcher(Protocol):
    """Starts processes."""

    def __call__(self, command: Command) -> ServerProcess:
        """Start a process and return at once."""


def spawn(command: Command) -> ServerProcess:
    """Start a new Python interpreter."""
    with command.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", command.module, *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=command.environment,
        )
