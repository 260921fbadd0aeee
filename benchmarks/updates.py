"""Throughput of ``UpdateContext``, and its effect on ``Predict``.

``python -m benchmarks.updates [--quick] [--json]``. Headlines: ``known_rows_per_s`` for outcomes
of stored prompts, ``new_rows_per_s`` for outcomes of new prompts (acknowledged before they are
embedded in the background), ``predict_p99_ratio`` for cached prompts of another policy at 20 calls
per second. Reference in the same run: SQLite without a server, on the same disk, with the same
durability.
"""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks import report, sqlite, streams
from benchmarks.client import ClientProcess
from load_tests import generator, policies, sigterm
from load_tests.messages import predict_request
from load_tests.prompts import PromptSource, common_prompts
from vzero.v1 import value_pb2_grpc
from vzero_server.testing.local_server import LocalServer

STREAMS = (1, 4)
STEADY = 20.0
"""Calls of ``Predict`` per second during updates."""
PREDICTED = "predicted"
"""Policy of these calls."""


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the benchmark.

    Attributes:
        rounds: Number of rounds.
        pool: Number of stored prompts.
        known: Outcomes of stored prompts per stream.
        new: Outcomes of new prompts over all streams; those of a policy must fit its window.
        steady: Duration of ``Predict`` at a steady rate, with and without updates, in seconds.
    """

    rounds: int
    pool: int
    known: int
    new: int
    steady: float


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    options = report.parser(__doc__).parse_args()
    size = Size(1, 128, 2048, 64, 1.0) if options.quick else Size(5, 2048, 16_384, 1024, 10.0)
    out = report.Report("updates", options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status("starting a server and embedding the stored prompts"):
            server = stack.enter_context(LocalServer(folder / "data"))
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            policies.append(channel, [PREDICTED], rows=size.pool, pool=size.pool)
            policies.wait_embedded(channel, [PREDICTED])
        bench = Updates(
            server.address,
            folder,
            size,
            value_pb2_grpc.ValueServiceStub(channel),
            stack.enter_context(ClientProcess()),
            stack.enter_context(ClientProcess()),
        )
        with out.status(f"{size.rounds} rounds"):
            bench.warm_up()
            values = report.rounds(
                size.rounds, bench.reference, bench.known, bench.predict_beside, bench.new
            )
    _add(out, values)
    out.print()


@dataclass(frozen=True, slots=True)
class Updates:
    """The measurements; each takes the number of the round."""

    address: str
    folder: Path
    size: Size
    stub: value_pb2_grpc.ValueServiceStub
    trainer: ClientProcess
    router: ClientProcess

    def warm_up(self) -> None:
        """Import modules in the client processes, and open a first stream."""
        prompts = [common_prompts(self.size.pool)]
        self.trainer.run(streams.send, self.address, ["warm-up"], prompts, "warm-up")
        self.router.run(common_prompts, 1)

    def reference(self, number: int) -> dict[str, float]:
        """Rows per second of SQLite without a server."""
        path = self.folder / f"reference-{number}.sqlite3"
        rows = self.size.known
        return {"sqlite_rows_per_s": sqlite.rows_per_second(path, rows=rows, batch=streams.CHUNK)}

    def known(self, number: int) -> dict[str, float]:
        """Rows per second for prompts that are stored and embedded."""
        pool = common_prompts(self.size.pool)
        prompts = [pool[row % len(pool)] for row in range(self.size.known)]
        figures = {}
        for count in STREAMS:
            policy_ids = [f"known-{count}-{stream}" for stream in range(count)]
            seconds = self.trainer.run(
                streams.send, self.address, policy_ids, [prompts] * count, f"known-{number}"
            )
            figures[f"rows_per_s.known.{count}"] = count * len(prompts) / seconds
        return figures

    def new(self, number: int) -> dict[str, float]:
        """Rows per second for new prompts: acknowledged, and embedded."""
        figures = {}
        for count in STREAMS:
            policy_ids = [f"new-{count}-{number}-{stream}" for stream in range(count)]
            source = PromptSource(f"new-{count}-{number}", repeated=0.0)
            prompts = [source.take(self.size.new // count) for _ in policy_ids]
            began = time.perf_counter()
            seconds = self.trainer.run(
                streams.send, self.address, policy_ids, prompts, f"new-{number}"
            )
            # Without the time to create the messages.
            began += time.perf_counter() - began - seconds
            # This estimator waits for the embeddings of the whole window.
            for policy_id in policy_ids:
                request = predict_request(policy_id, common_prompts(1))
                request.estimator = "knn"
                self.stub.Predict(request, timeout=300.0)
            figures[f"rows_per_s.new.{count}"] = self.size.new / seconds
            figures[f"embedded_rows_per_s.{count}"] = self.size.new / (time.perf_counter() - began)
        return figures

    def predict_beside(self, number: int) -> dict[str, float]:
        """p99 of ``Predict`` with and without concurrent updates."""
        figures = {"predict_p99_ms.alone": self._steady_p99(number)}
        for kind, policy in (("other_policy", "updated"), ("same_policy", PREDICTED)):
            updating = self.trainer.start(
                streams.send_for,
                self.address,
                [policy],
                common_prompts(self.size.pool),
                f"beside-{kind}-{number}",
                self.size.steady + 1.0,
            )
            time.sleep(0.5)  # the client process prepares its calls
            figures[f"predict_p99_ms.{kind}"] = self._steady_p99(number)
            figures[f"rows_per_s_beside_predict.{kind}"] = updating.result()
        return figures

    def _steady_p99(self, number: int) -> float:
        load = generator.Load(
            self.address,
            "router",
            (PREDICTED,),
            concurrency=64,
            seconds=self.size.steady,
            warmup=0.2,
            rate=STEADY,
            repeated=1.0,
            pool=64,
            seed=str(number),
        )
        summary = self.router.run(generator.send, load)
        if summary["errors"]:
            raise RuntimeError(f"calls failed: {summary['errors']}")
        return float(summary["p99_ms"])


def _add(out: report.Report, values: dict[str, list[float]]) -> None:
    def ratio(path: str, over: str) -> list[float]:
        pairs = zip(values[path], values[over], strict=True)
        return [numerator / denominator for numerator, denominator in pairs]

    known, bare, alone = "rows_per_s.known.1", "sqlite_rows_per_s", "predict_p99_ms.alone"
    out.add("known_rows_per_s", "known prompts, acknowledged", "rows/s", values[known])
    out.add("new_rows_per_s", "new prompts, acknowledged", "rows/s", values["rows_per_s.new.1"])
    out.add(
        "known_vs_sqlite", "known prompts over SQLite without a server", "ratio", ratio(known, bare)
    )
    slowdown = ratio("predict_p99_ms.other_policy", alone)
    out.add("predict_p99_ratio", "Predict p99 during updates over alone", "ratio", slowdown)
    slowdown = ratio("predict_p99_ms.same_policy", alone)
    out.add("predict_p99_ratio_same_policy", "the same, for the updated policy", "ratio", slowdown)
    for path, measured in values.items():
        unit = "ms" if "_ms" in path else "rows/s"
        out.add(path, path.replace(".", ", ").replace("_", " "), unit, measured)


if __name__ == "__main__":
    main()
