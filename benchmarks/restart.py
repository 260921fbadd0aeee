"""Restart of a killed server with many policies: time to serve, and to the first replies.

``python -m benchmarks.restart [--policies 1000] [--rows 2048] [--quick] [--json]``. Headlines:
``serving_s``, from the start of the process to SERVING, and ``serving_empty_s``, the same with an
empty data folder (the difference is the cost of the data); ``first_answer_ms`` for a random
policy, whose window must be read from the disk, and ``second_answer_ms``; ``rss_mb``, the memory
after these calls.
"""

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import grpc
import psutil  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import report
from load_tests import policies, sigterm
from load_tests.messages import predict_request
from load_tests.prompts import common_prompts
from vzero.v1 import value_pb2_grpc
from vzero_server.testing.local_server import LocalServer

REQUESTED = 10
"""Random policies that are requested after a start."""


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    parser = report.parser(__doc__)
    parser.add_argument("--policies", type=int, help="number of policies, default: 1000")
    parser.add_argument("--rows", type=int, help="outcomes of each policy, default: 2048")
    parser.add_argument("--pool", type=int, help="distinct prompts, default: 4096")
    options = parser.parse_args()
    count = 1 if options.quick else 3
    policy_count = options.policies or (8 if options.quick else 1000)
    rows = options.rows or (64 if options.quick else 2048)
    pool = options.pool or (64 if options.quick else 4096)
    out = report.Report("restart", options)
    with tempfile.TemporaryDirectory(prefix="vzero-bench-") as name:
        full = LocalServer(Path(name) / "full")
        empty = LocalServer(Path(name) / "empty")
        bench = Restart(full, empty, [f"policy-{number}" for number in range(policy_count)], pool)
        with out.status(f"storing {policy_count} policies of {rows} outcomes"), _running(full):
            stored = bench.fill(rows)
        with out.status(f"{count} rounds"):
            values = report.rounds(count, bench.empty_round, bench.full_round)
    out.add("stored_rows_per_s", "rows stored, without embedding", "rows/s", [stored])
    texts = {
        "serving_s": "start to SERVING",
        "serving_empty_s": "the same with an empty folder",
        "first_answer_ms": f"first answer, median of {REQUESTED} policies",
        "first_answer_ms_max": "first answer, slowest of these",
        "second_answer_ms": "second answer, median",
        "rss_mb": "memory after these calls",
        "rss_empty_mb": "memory with an empty folder",
    }
    for path, what in texts.items():
        out.add(path, what, path.removesuffix("_max").rsplit("_", 1)[1], values[path])
    out.print()


@dataclass(frozen=True, slots=True)
class Restart:
    """The measurements, of a server with data and one without.

    Attributes:
        full: The server with data.
        empty: The server without data.
        policies: Policies of the server with data.
        pool: Number of distinct prompts.
    """

    full: LocalServer
    empty: LocalServer
    policies: list[str]
    pool: int

    def fill(self, rows: int) -> float:
        """Store ``rows`` outcomes per policy, all embedded; returns rows per second."""
        with grpc.insecure_channel(self.full.address) as channel:
            policies.append(channel, ["all-prompts"], rows=self.pool, pool=self.pool)
            self._wait_embedded()
            began = time.perf_counter()
            policies.append(channel, self.policies, rows=rows, pool=self.pool)
            return len(self.policies) * rows / (time.perf_counter() - began)

    def _wait_embedded(self) -> None:
        """Wait until the embedding of every prompt is stored."""
        path = self.full.data_dir / "vzero.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            while True:
                (stored,) = connection.execute("SELECT count(*) FROM embedding").fetchone()
                if stored >= len(set(common_prompts(self.pool))):
                    return
                time.sleep(0.2)

    def empty_round(self, number: int) -> dict[str, float]:
        """Start without data."""
        with _running(self.empty) as seconds:
            return {"serving_empty_s": seconds, "rss_empty_mb": _memory(self.empty)}

    def full_round(self, number: int) -> dict[str, float]:
        """Start with data, and request values under random policies twice."""
        chosen = Random(number).sample(self.policies, min(REQUESTED, len(self.policies)))
        prompts = common_prompts(64)
        with _running(self.full) as seconds, grpc.insecure_channel(self.full.address) as channel:
            stub = value_pb2_grpc.ValueServiceStub(channel)
            grpc.channel_ready_future(channel).result(timeout=10.0)

            def latencies(prompt: str) -> list[float]:
                durations = []
                for policy_id in chosen:
                    began = time.perf_counter()
                    stub.Predict(predict_request(policy_id, [prompt]), timeout=60.0)
                    durations.append(1000 * (time.perf_counter() - began))
                return durations

            first = latencies(prompts[number % len(prompts)])
            second = latencies(prompts[number % len(prompts)])
            return {
                "serving_s": seconds,
                "first_answer_ms": median(first),
                "first_answer_ms_max": max(first),
                "second_answer_ms": median(second),
                "rss_mb": _memory(self.full),
            }


@contextmanager
def _running(server: LocalServer) -> Iterator[float]:
    """Start a server, yield the seconds until SERVING, and kill it at the end."""
    began = time.perf_counter()
    with ExitStack() as stack:
        server.start(wait=False)
        stack.callback(server.kill)
        _wait_serving(server)
        yield time.perf_counter() - began


def _wait_serving(server: LocalServer, timeout: float = 120.0) -> None:
    """Wait until SERVING, with a resolution of about 20 ms.

    Raises:
        RuntimeError: The server exited, or took longer than ``timeout`` seconds.
    """
    # By default, a channel waits for seconds before it reconnects.
    options = [(f"grpc.{name}_reconnect_backoff_ms", 20) for name in ("initial", "min", "max")]
    request = health_pb2.HealthCheckRequest(service="vzero.v1.ValueService")
    deadline = time.monotonic() + timeout
    with grpc.insecure_channel(server.address, options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while server.running and time.monotonic() < deadline:
            try:
                reply = stub.Check(request, timeout=1.0)  # type: ignore[attr-defined]
            except grpc.RpcError:
                time.sleep(0.02)
                continue
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.01)
    raise RuntimeError(f"the server did not start:\n{server.log.read_text()}")


def _memory(server: LocalServer) -> float:
    """Resident memory of a server, in MB of 10^6 bytes."""
    resident: int = psutil.Process(server.pid).memory_info().rss
    return resident / 1e6


if __name__ == "__main__":
    main()
