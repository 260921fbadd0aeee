"""Latency of ``Predict``, split into model time and overhead.

``python -m benchmarks.latency [--quick] [--json]``. Headline: ``overhead_ms_p50``, the overhead of
a single call for a prompt whose embedding is cached: the median round trip minus the mean time of
the in-context head, from the server's metrics (``vzero_estimator_seconds``). References in the same
run: a gRPC echo of the same size, and the backbone called in this process with the largest batches
that as many callers allow.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from benchmarks import echo, report
from benchmarks.client import ClientProcess
from benchmarks.echo import EchoServer
from benchmarks.server_metrics import mean_of
from load_tests import generator, policies, sigterm
from load_tests.messages import predict_request
from load_tests.prompts import common_prompts
from vzero.v1 import value_pb2_grpc
from vzero_server.testing.local_server import LocalServer

if TYPE_CHECKING:
    from benchmarks.model import InProcessModel

CONTEXTS = (256, 2048)
"""Outcomes of the policies."""


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the benchmark.

    Attributes:
        rounds: Number of rounds.
        seconds: Duration of each measurement.
        warmup: Duration of the calls before it, in seconds.
        concurrencies: Numbers of concurrent calls; the first is 1.
        pool: Number of common prompts of cached calls.
    """

    rounds: int
    seconds: float
    warmup: float
    concurrencies: tuple[int, ...]
    pool: int


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    # Imported here: the client process imports this module too, and needs no torch.
    from benchmarks.model import InProcessModel

    options = report.parser(__doc__).parse_args()
    size = Size(1, 0.3, 0.1, (1, 8), 16) if options.quick else Size(5, 3.0, 0.5, (1, 8, 64), 64)
    out = report.Report("latency", options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status("starting a server and loading the model"):
            server = LocalServer(folder / "data")
            stack.callback(_stop, server)
            server.start(wait=False)
            model = InProcessModel()
            server.wait()
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            for rows in CONTEXTS:
                policies.append(channel, [_policy(rows)], rows=rows, pool=size.pool)
                policies.wait_embedded(channel, [_policy(rows)])
        request, reply = _sizes(channel)
        echoes = stack.enter_context(EchoServer(reply_bytes=reply))
        client = stack.enter_context(ClientProcess())
        bench = Latency(server, echoes.address, request, size, model, client)
        with out.status(f"{size.rounds} rounds"):
            values = report.rounds(size.rounds, bench.one_round)
    _add(out, values)
    out.print()


@dataclass(frozen=True, slots=True)
class Latency:
    """The measurements.

    Attributes:
        server: The server.
        echo_address: Address of the echo server.
        request_bytes: Size of a request for one prompt.
        size: Size of the benchmark.
        model: The backbone in this process.
        client: Process that makes the calls.
    """

    server: LocalServer
    echo_address: str
    request_bytes: int
    size: Size
    model: "InProcessModel"
    client: ClientProcess

    def one_round(self, number: int) -> dict[str, float]:
        """Run one round."""
        small, large = CONTEXTS
        figures: dict[str, float] = {}
        for callers in self.size.concurrencies:
            figures |= _percentiles(f"echo.{callers}", self._echo(callers))
            with mean_of(self.server, "vzero_estimator_seconds") as head:
                cached = self._predict(small, callers, number, cached=True)
            figures |= _percentiles(f"cached.{callers}", cached)
            figures[f"head_ms.cached.{callers}"] = 1000 * head.value
            uncached = self._predict(small, callers, number, cached=False)
            figures |= _percentiles(f"uncached.{callers}", uncached)
            served = 1000 / uncached["prompts_per_s"]
            bare = self.model.milliseconds(callers, self.size.seconds, number)
            figures[f"served_ms_per_prompt.{callers}"] = served
            figures[f"model_ms_per_prompt.{callers}"] = bare
            figures[f"not_model_ms_per_prompt.{callers}"] = served - bare
        cached = self._predict(large, 1, number, cached=True)
        return figures | _percentiles(f"cached_{large}_rows.1", cached)

    def _echo(self, callers: int) -> dict[str, Any]:
        return self.client.run(
            echo.send,
            self.echo_address,
            request_bytes=self.request_bytes,
            concurrency=callers,
            seconds=self.size.seconds,
            warmup=self.size.warmup,
        )

    def _predict(self, rows: int, callers: int, number: int, *, cached: bool) -> dict[str, Any]:
        load = generator.Load(
            self.server.address,
            "router",
            (_policy(rows),),
            concurrency=callers,
            seconds=self.size.seconds,
            warmup=self.size.warmup,
            repeated=float(cached),
            pool=self.size.pool,
            seed=f"{rows}-{number}",
        )
        return self.client.run(generator.send, load)


def _policy(rows: int) -> str:
    return f"rows-{rows}"


def _sizes(channel: grpc.Channel) -> tuple[int, int]:
    """Sizes of a request for one prompt and of its reply, in bytes."""
    request = predict_request(_policy(CONTEXTS[0]), common_prompts(1))
    reply = value_pb2_grpc.ValueServiceStub(channel).Predict(request, timeout=60.0)
    return request.ByteSize(), reply.ByteSize()


def _percentiles(path: str, summary: dict[str, Any]) -> dict[str, float]:
    if summary["errors"]:
        raise RuntimeError(f"{path}: calls failed: {summary['errors']}")
    return {f"{name}.{path}": summary[name] for name in ("p50_ms", "p99_ms")}


def _add(out: report.Report, values: dict[str, list[float]]) -> None:
    predict_ms, echo_ms = values["p50_ms.cached.1"], values["p50_ms.echo.1"]
    head_ms = values["head_ms.cached.1"]
    overheads = [total - head for total, head in zip(predict_ms, head_ms, strict=True)]
    out.add("overhead_ms_p50", "single cached Predict, overhead", "ms", overheads)
    out.add("lone_ms_p50", "single cached Predict, p50", "ms", predict_ms)
    out.add("echo_ms_p50", "single echo of the same size, p50", "ms", echo_ms)
    ratios = [total / echoed for total, echoed in zip(predict_ms, echo_ms, strict=True)]
    out.add("overhead_vs_echo", "single Predict over the echo", "ratio", ratios)
    for path, measured in values.items():
        out.add(path, path.replace(".", ", ").replace("_", " "), "ms", measured)


def _stop(server: LocalServer) -> None:
    if server.running:
        server.terminate()


if __name__ == "__main__":
    main()
