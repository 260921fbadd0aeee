"""Round trips of ``Predict``: how much of them is the model, and how much is us.

``python -m benchmarks.latency [--quick] [--json]``. Headline: ``overhead_ms_p50``, of a lone
call for a prompt whose embedding is cached the part that is not model time: the median round
trip less the mean time the server says its in-context head took (``vzero_estimator_seconds``).
References in the same run: a bare gRPC echo of the same size, and the backbone called in this
process with the best batches that as many callers allow.
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
from benchmarks.measured import mean_of
from load_tests import generator, policies, sigterm
from load_tests.messages import predict_request
from load_tests.prompts import common_prompts
from vzero.v1 import value_pb2_grpc
from vzero_server.testing.local_server import LocalServer

if TYPE_CHECKING:
    from benchmarks.model import InProcessModel

CONTEXTS = (256, 2048)
"""Rows of the policies that are asked for."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much to do.

    Attributes:
        rounds: Rounds.
        seconds: Of each measurement.
        warmup: Seconds of calls before it.
        concurrencies: Calls at once; the first is 1.
        pool: Common prompts that cached calls ask for.
    """

    rounds: int
    seconds: float
    warmup: float
    concurrencies: tuple[int, ...]
    pool: int


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    # Not above: the client process imports this module too, and needs no torch.
    from benchmarks.model import InProcessModel

    given = report.parser(__doc__).parse_args()
    size = Size(1, 0.3, 0.1, (1, 8), 16) if given.quick else Size(5, 3.0, 0.5, (1, 8, 64), 64)
    out = report.Report("latency", given)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status("starting a server, loading the model"):
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
        echo_address: Of the echo server.
        request_bytes: Size of a request for one prompt.
        size: How much to do.
        model: The backbone in this process.
        client: Makes the calls.
    """

    server: LocalServer
    echo_address: str
    request_bytes: int
    size: Size
    model: "InProcessModel"
    client: ClientProcess

    def one_round(self, number: int) -> dict[str, float]:
        """All figures once; ``number`` is that of the round."""
        small, large = CONTEXTS
        figures: dict[str, float] = {}
        for callers in self.size.concurrencies:
            figures |= _percentiles(f"echo.{callers}", self._echo(callers))
            with mean_of(self.server, "vzero_estimator_seconds") as head:
                found = self._predict(small, callers, number, cached=True)
            figures |= _percentiles(f"cached.{callers}", found)
            figures[f"head_ms.cached.{callers}"] = 1000 * head.value
            found = self._predict(small, callers, number, cached=False)
            figures |= _percentiles(f"uncached.{callers}", found)
            served = 1000 / found["prompts_per_s"]
            bare = self.model.milliseconds(callers, self.size.seconds, number)
            figures[f"served_ms_per_prompt.{callers}"] = served
            figures[f"model_ms_per_prompt.{callers}"] = bare
            figures[f"not_model_ms_per_prompt.{callers}"] = served - bare
        found = self._predict(large, 1, number, cached=True)
        return figures | _percentiles(f"cached_{large}_rows.1", found)

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
    """Bytes of a request for one prompt and of its reply."""
    request = predict_request(_policy(CONTEXTS[0]), common_prompts(1))
    reply = value_pb2_grpc.ValueServiceStub(channel).Predict(request, timeout=60.0)
    return request.ByteSize(), reply.ByteSize()


def _percentiles(place: str, found: dict[str, Any]) -> dict[str, float]:
    if found["errors"]:
        raise RuntimeError(f"{place}: calls failed: {found['errors']}")
    return {f"{name}.{place}": found[name] for name in ("p50_ms", "p99_ms")}


def _add(out: report.Report, values: dict[str, list[float]]) -> None:
    lone, bare = values["p50_ms.cached.1"], values["p50_ms.echo.1"]
    heads = values["head_ms.cached.1"]
    rest = [ours - head for ours, head in zip(lone, heads, strict=True)]
    out.add("overhead_ms_p50", "lone cached Predict, what is not model time", "ms", rest)
    out.add("lone_ms_p50", "lone cached Predict, p50", "ms", lone)
    out.add("echo_ms_p50", "lone echo of the same size, p50", "ms", bare)
    ratio = [ours / least for ours, least in zip(lone, bare, strict=True)]
    out.add("overhead_vs_echo", "the lone Predict over the echo", "ratio", ratio)
    for path, one in values.items():
        out.add(path, path.replace(".", ", ").replace("_", " "), "ms", one)


def _stop(server: LocalServer) -> None:
    if server.running:
        server.terminate()


if __name__ == "__main__":
    main()
