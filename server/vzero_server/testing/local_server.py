"""A server in a process of its own on loopback, for the demo, benchmarks and tests."""

import os
import signal
import socket
import sys
import time
import weakref
from pathlib import Path
from typing import ClassVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vzero_server.testing.process import Command, Launcher, ServerProcess, spawn


class LocalServer:
    """A server process on a free loopback port, to be stopped, killed and started again.

    Attributes:
        address: ``host:port``; the same after a restart.
        admin_address: ``host:port`` of metrics and probes; the same after a restart.
        data_dir: Its data folder.
        log: File with all it prints.
    """

    module = "vzero_server"
    """What is run: it takes the flags of ``vzero serve``."""

    launcher: ClassVar[Launcher] = staticmethod(spawn)
    """How processes are started unless a server is given a launcher of its own."""

    def __init__(
        self, data_dir: Path, *, launcher: Launcher | None = None, **settings: object
    ) -> None:
        """Choose a port; ``start`` starts the process.

        Args:
            data_dir: Data folder, created if missing.
            launcher: How its process is started; None for ``LocalServer.launcher``.
            settings: Any setting of ``vzero_server.settings`` by name.
        """
        self._port, self._admin_port = self._reserve_ports(2)
        self.address = f"127.0.0.1:{self._port}"
        self.admin_address = f"127.0.0.1:{self._admin_port}"
        self.data_dir = data_dir
        self.log = data_dir.with_name(data_dir.name + ".log")
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **{f"VZERO_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._launch = launcher or LocalServer.launcher
        self._process: ServerProcess | None = None

    def __enter__(self) -> "LocalServer":
        if not self.running:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self.running:
            return
        try:
            self.terminate()
        finally:
            if self.running:
                self.kill()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True, timeout: float = 120.0) -> None:
        """Start the process, by default until it is SERVING.

        Raises:
            RuntimeError: It runs already, it ended, or it is not serving in time; says what
                it printed.
        """
        if self.running:
            raise RuntimeError("the server runs already")
        arguments = ["--port", str(self._port), "--admin-port", str(self._admin_port)]
        arguments += ["--data-dir", str(self.data_dir)]
        self._process = self._launch(Command(self.module, arguments, self._environment, self.log))
        if wait:
            self.wait(timeout)

    def wait(self, timeout: float = 120.0) -> None:
        """Wait until the server is SERVING; raises as ``start``."""
        deadline = time.monotonic() + timeout
        # It will be there any moment: gRPC's own pauses grow to seconds.
        options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 50)]
        with grpc.insecure_channel(self.address, options) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service="vzero.v1.ValueService")
            while self.running and time.monotonic() < deadline:
                try:
                    reply = stub.Check(request, timeout=5.0, wait_for_ready=True)  # type: ignore[attr-defined]
                except grpc.RpcError:
                    continue
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return
                time.sleep(0.02)
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()}")

    def kill(self) -> None:
        """End the process at once (SIGKILL)."""
        self._signal(signal.SIGKILL)

    def terminate(self, timeout: float = 60.0) -> int:
        """Let the server drain (SIGTERM); returns its exit code."""
        return self._signal(signal.SIGTERM, timeout)

    def wait_for_exit(self, timeout: float = 60.0) -> int:
        """Wait until the server ends by itself; returns its exit code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def _reserve_ports(self, count: int) -> list[int]:
        """Free ports, which no other process is given as long as this object lives."""
        reserved = [socket.socket() for _ in range(count)]
        for free in reserved:
            # Linux lets the server listen on a port that another process has bound like this.
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", 0))
        ports: list[int] = [free.getsockname()[1] for free in reserved]
        for free in reserved:
            if sys.platform == "linux":
                weakref.finalize(self, free.close)
            else:
                free.close()
        return ports

    def _signal(self, number: signal.Signals, timeout: float = 60.0) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self.wait_for_exit(timeout)
