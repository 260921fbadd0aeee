"""A server that remembers, over code that embeds context and queries anew on every call.

``python -m benchmarks.stateless_reference [--quick] [--json]``. Headlines: ``ratio_uncached`` and
``ratio_cached``. The reference does what the authors' code does, with the same backbone and head,
in-process: embed 256 context prompts and 8 queries in full batches, read the context, answer. Ours
is one ``Predict`` for 8 prompts under a policy of 256 outcomes, over gRPC, prompts new or known.
All are the policy zoo's, made new by a number.
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

POLICY, ROWS, QUERIES = "asked", 256, 8


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    given = report.parser(__doc__).parse_args()
    rounds, calls = (1, 2) if given.quick else (7, 20)
    out = report.Report("stateless_reference", given)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status("starting a server, loading the models"):
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
    out.add("ratio_uncached", "reference over ours, new prompts", "ratio", values["ratio_uncached"])
    out.add("ratio_cached", "reference over ours, known prompts", "ratio", values["ratio_cached"])
    for name in ("reference_ms", "uncached_ms", "cached_ms"):
        out.add(name, name.removesuffix("_ms"), "ms", values[name])
    out.print()


@dataclass(frozen=True, slots=True)
class Stateless:
    """The measurement.

    Attributes:
        stub: Of the server.
        model: The backbone in this process.
        head: The in-context head in this process.
        calls: Calls of a round, the median of which counts.
    """

    stub: value_pb2_grpc.ValueServiceStub
    model: InProcessModel
    head: InContextHead
    calls: int

    def one_round(self, number: int) -> dict[str, float]:
        """All figures once; ``number`` is that of the round."""
        known = new_zoo_prompts(QUERIES, "known")
        self._ask(known)
        cached = median(report.milliseconds(lambda: self._ask(known)) for _ in range(self.calls))
        fresh = [new_zoo_prompts(QUERIES, f"{number} {call}") for call in range(self.calls)]
        uncached = median(report.milliseconds(partial(self._ask, prompts)) for prompts in fresh)
        context = new_zoo_prompts(ROWS, "context")
        reference = report.milliseconds(lambda: self._reference([*context, *fresh[0]]))
        return {
            "reference_ms": reference,
            "uncached_ms": uncached,
            "cached_ms": cached,
            "ratio_uncached": reference / uncached,
            "ratio_cached": reference / cached,
        }

    def _ask(self, prompts: list[str]) -> None:
        self.stub.Predict(predict_request(POLICY, prompts), timeout=60.0)

    @torch.inference_mode()
    def _reference(self, prompts: list[str]) -> None:
        """Values of the prompts after the first ``ROWS``, which are the context."""
        features = torch.from_numpy(self.model.features(prompts))
        rows = self.head.rows(features.float().unsqueeze(0))
        context = self.head.encode(rows[:, :ROWS], torch.rand(1, ROWS))
        self.head.predict(context, rows[:, ROWS:])


if __name__ == "__main__":
    main()
