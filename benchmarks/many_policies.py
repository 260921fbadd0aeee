"""Latency of a ranking over many policies, relative to one ``Predict``.

``python -m benchmarks.many_policies [--quick] [--json]``. Headline: ``ratio_100``, ``RankModels``
of a known prompt over 100 policies of 256 outcomes each, divided by a single ``Predict`` of the
same prompt. Also over 1, 10 and 500 policies (two concurrent calls of 250 each), and for a new
prompt, which is embedded once for all policies.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks import report
from load_tests import policies, sigterm
from load_tests.messages import predict_request
from load_tests.prompts import PromptSource, common_prompts
from vzero.v1 import value_pb2, value_pb2_grpc
from vzero_server.testing.local_server import LocalServer

COUNTS, ROWS = (1, 10, 100, 500), 256
_MAX_POLICIES = 250
"""Policies per call."""


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    options = report.parser(__doc__).parse_args()
    rounds, counts, rows = (1, (1, 10), 32) if options.quick else (7, COUNTS, ROWS)
    out = report.Report("many_policies", options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status(f"creating {max(counts)} policies of {rows} outcomes"):
            server = stack.enter_context(LocalServer(folder / "data"))
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            names = [f"policy-{number}" for number in range(max(counts))]
            policies.append(channel, names, rows=rows, pool=8 * rows)
            policies.wait_embedded(channel, names)
        bench = ManyPolicies(value_pb2_grpc.ValueServiceStub(channel), names, counts)
        with out.status(f"{rounds} rounds"):
            bench.one_round(-1)
            values = report.rounds(rounds, bench.one_round)
    if "ratio.100" in values:
        out.add("ratio_100", "100 policies over one Predict", "ratio", values.pop("ratio.100"))
    for name, measured in values.items():
        unit = "ratio" if "ratio" in name else "ms"
        out.add(name, name.replace("_", " ").replace(".", ", policies "), unit, measured)
    out.print()


@dataclass(frozen=True, slots=True)
class ManyPolicies:
    """The measurement.

    Attributes:
        stub: Stub of the server.
        names: Names of the policies.
        counts: Numbers of policies to rank.
    """

    stub: value_pb2_grpc.ValueServiceStub
    names: list[str]
    counts: tuple[int, ...]

    def one_round(self, number: int) -> dict[str, float]:
        """Run one round."""
        known = common_prompts(1)[0]
        predict_ms = report.milliseconds(lambda: self._predict(known), 30)
        figures = {"predict_ms": predict_ms}
        for count in self.counts:
            rank_ms = report.milliseconds(lambda count=count: self._rank(known, count), 8)
            figures[f"rank_ms.{count}"] = rank_ms
            figures[f"ratio.{count}"] = rank_ms / predict_ms
        source = PromptSource(f"new {number}", repeated=0.0)
        figures["predict_new_ms"] = report.milliseconds(lambda: self._predict(source.take(1)[0]), 8)
        many = min(100, max(self.counts))
        new = report.milliseconds(lambda: self._rank(source.take(1)[0], many), 8)
        return {**figures, f"rank_new_ms.{many}": new}

    def _predict(self, prompt: str) -> None:
        self.stub.Predict(predict_request(self.names[0], [prompt]), timeout=60.0)

    def _rank(self, prompt: str, count: int) -> None:
        batches = [
            self.names[at : min(at + _MAX_POLICIES, count)] for at in range(0, count, _MAX_POLICIES)
        ]
        calls = [
            self.stub.RankModels.future(
                value_pb2.RankModelsRequest(prompts=[prompt], policy_ids=batch), timeout=60.0
            )
            for batch in batches
        ]
        for call in calls:
            call.result()


if __name__ == "__main__":
    main()
