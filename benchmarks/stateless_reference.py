"""Speed-up over code without state, which embeds context and queries on every call.

``python -m benchmarks.stateless_reference [--quick] [--json]``. Headlines: ``ratio_uncached`` and
``ratio_cached``. The reference works like the authors' code, with the same backbone and head,
in-process: embed 256 context prompts and 8 queries in full batches, encode the context, predict.
The server answers one ``Predict`` for 8 prompts under a policy of 256 outcomes, over gRPC, with
new or cached prompts. All prompts are from the policy zoo, each made new by a number.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import grpc
import torch

from benchmarks import report
from benchmarks.model import InProcessModel
from benchmarks.zoo_prompts import new_zoo_prompts
from load_tests import sigterm
from load_tests.messages import check_acks, chunks, predict_request
from vzero.v1 import value_pb2_grpc
from vzero_server.model.checkpoint import load_checkpoint
from vzero_server.model.in_context_head import InContextHead
from vzero_server.testing.local_server import LocalServer

POLICY, ROWS, QUERIES = "policy", 256, 8


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    options = report.parser(__doc__).parse_args()
    rounds, calls = (1, 2) if options.quick else (7, 20)
    out = report.Report("stateless_reference", options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status("starting a server and loading the models"):
            server = stack.enter_context(LocalServer(folder / "data"))
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            stub = value_pb2_grpc.ValueServiceStub(channel)
            requests = chunks(
                POLICY, new_zoo_prompts(ROWS, "context"), run="fill", step=0, rows=ROWS
            )
            check_acks(requests, list(stub.UpdateContext(iter(requests))))
            bench = Stateless(
                stub,
                InProcessModel(),
                load_checkpoint().head.eval(),
                calls,
            )
        with out.status(f"{rounds} rounds"):
            bench.one_round(-1)
            values = report.rounds(rounds, bench.one_round)
    out.add(
        "ratio_uncached", "reference over Predict, new prompts", "ratio", values["ratio_uncached"]
    )
    out.add(
        "ratio_cached", "reference over Predict, cached prompts", "ratio", values["ratio_cached"]
    )
    for name in ("reference_ms", "uncached_ms", "cached_ms"):
        out.add(name, name.removesuffix("_ms"), "ms", values[name])
    out.print()


@dataclass(frozen=True, slots=True)
class Stateless:
    """The measurement.

    Attributes:
        stub: Stub of the server.
        model: The backbone in this process.
        head: The in-context head in this process.
        calls: Calls per round, of which the median is taken.
    """

    stub: value_pb2_grpc.ValueServiceStub
    model: InProcessModel
    head: InContextHead
    calls: int

    def one_round(self, number: int) -> dict[str, float]:
        """Run one round."""
        known = new_zoo_prompts(QUERIES, "known")
        self._predict(known)
        cached = median(
            report.milliseconds(lambda: self._predict(known)) for _ in range(self.calls)
        )
        fresh = [new_zoo_prompts(QUERIES, f"{number} {call}") for call in range(self.calls)]
        uncached = median(report.milliseconds(partial(self._predict, prompts)) for prompts in fresh)
        context = new_zoo_prompts(ROWS, "context")
        reference = report.milliseconds(lambda: self._reference([*context, *fresh[0]]))
        return {
            "reference_ms": reference,
            "uncached_ms": uncached,
            "cached_ms": cached,
            "ratio_uncached": reference / uncached,
            "ratio_cached": reference / cached,
        }

    def _predict(self, prompts: list[str]) -> None:
        self.stub.Predict(predict_request(POLICY, prompts), timeout=60.0)

    @torch.inference_mode()
    def _reference(self, prompts: list[str]) -> None:
        """Predict values of the prompts after the first ``ROWS``, which are the context."""
        features = torch.from_numpy(self.model.features(prompts))
        rows = self.head.rows(features.float().unsqueeze(0))
        context = self.head.encode(rows[:, :ROWS], torch.rand(1, ROWS))
        self.head.predict(context, rows[:, ROWS:])


if __name__ == "__main__":
    main()
