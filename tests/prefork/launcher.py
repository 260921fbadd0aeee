"""Servers forked from a process that has imported all their modules, so that they start fast.

An interpreter takes seconds to import torch and sentence-transformers. A fork server imports
them once and forks a process for every server. A start takes a fraction of the time, and runs the
same module with the same command line in a separate process, with separate signals and exit code.
"""

import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess

from vzero_server.testing.process import Command, ServerProcess

# A process that forks must have only one thread. Without these settings, libraries start pools of
# threads when they are imported.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # The allocator of pyarrow.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


class PreforkLauncher:
    """Starts servers as forks of one process; see ``vzero_server.testing.process.Launcher``."""

    def __init__(self) -> None:
        """Start nothing yet: the fork server starts with the first process."""
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.prefork.imports"])

    def __call__(self, command: Command) -> ServerProcess:
        """Fork a process and return at once; the first call waits for the imports."""
        _ensure_fork_server()
        process = self._context.Process(
            target=_run,
            args=(
                command.module,
                list(command.arguments),
                dict(command.environment),
                str(command.log),
            ),
            # Ends with the tests.
            daemon=True,
        )
        process.start()
        return _Forked(process)


def _ensure_fork_server() -> None:
    environment = os.environ.copy()
    # It imports from the same paths as this process.
    os.environ.update(_ONE_THREAD, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(environment)


class _Forked:
    """A forked process; see ``vzero_server.testing.process.ServerProcess``."""

    def __init__(self, process: ForkServerProcess) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self._process = process

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        exit_code = self._process.exitcode
        if exit_code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return exit_code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


def _run(module: str, arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Run ``python -m module`` in the forked process."""
    os.environ.clear()
    os.environ.update(environment)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(write_through=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
