"""One prompt over many policies, in comparison with one.

``python -m benchmarks.many_policies [--quick] [--json]``. Headline: ``ratio_100``, ``RankModels``
of a known prompt over 100 policies of 256 outcomes each, over a lone ``Predict`` of the same
prompt. Also over 1, 10 and 500 policies (two calls at once of 250 each), and for a new prompt,
which is embedded once however many policies there are.
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
_MOST = 250
"""Policies of one call."""


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    given = report.parser(__doc__).parse_args()
    rounds, counts, rows = (1, (1, 10), 32) if given.quick else (7, COUNTS, ROWS)
    out = report.Report("many_policies", given)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status(f"{max(counts)} policies of {rows} outcomes"):
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
    for name, one in values.items():
        unit = "ratio" if "ratio" in name else "ms"
        out.add(name, name.replace("_", " ").replace(".", ", policies "), unit, one)
    out.print()


@dataclass(frozen=True, slots=True)
class ManyPolicies:
    """The measurement.

    Attributes:
        stub: Of the server.
        names: The policies.
        counts: Over how many to rank.
    """

    stub: value_pb2_grpc.ValueServiceStub
    names: list[str]
    counts: tuple[int, ...]

    def one_round(self, number: int) -> dict[str, float]:
        """All figures once; ``number`` is that of the round."""
        known = common_prompts(1)[0]
        alone = report.milliseconds(lambda: self._predict(known), 30)
        figures = {"predict_ms": alone}
        for count in self.counts:
            found = report.milliseconds(lambda count=count: self._rank(known, count), 8)
            figures[f"rank_ms.{count}"] = found
            figures[f"ratio.{count}"] = found / alone
        source = PromptSource(f"new {number}", repeated=0.0)
        figures["predict_new_ms"] = report.milliseconds(lambda: self._predict(source.take(1)[0]), 8)
        many = min(100, max(self.counts))
        new = report.milliseconds(lambda: self._rank(source.take(1)[0], many), 8)
        return {**figures, f"rank_new_ms.{many}": new}

    def _predict(self, prompt: str) -> None:
        self.stub.Predict(predict_request(self.names[0], [prompt]), timeout=60.0)

    def _rank(self, prompt: str, count: int) -> None:
        pieces = [self.names[at : min(at + _MOST, count)] for at in range(0, count, _MOST)]
        calls = [
            self.stub.RankModels.future(
                value_pb2.RankModelsRequest(prompts=[prompt], policy_ids=piece), timeout=60.0
            )
            for piece in pieces
        ]
        for call in calls:
            call.result()


if __name__ == "__main__":
    main()
