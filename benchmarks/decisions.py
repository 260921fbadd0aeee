"""Latency of decisions, and quality of allocations.

``python -m benchmarks.decisions [--quick] [--json]``. Headlines: ``allocate_ms``, 8,192 rollouts
over 512 prompts with random success rates, and ``bound_ratio``, their utility as a share of the
certified upper bound; ``rank_100_ratio``, a ranking of one prompt over 100 policies relative to one
``Predict`` in the same round; ``sweep_ratio``, the same ranking for 21 preferences relative to one.
Calls are sequential; ``new`` marks calls with new prompts.
"""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import grpc
import numpy as np

from benchmarks import report
from load_tests import policies, sigterm
from load_tests.messages import predict_request
from load_tests.prompts import common_prompts
from vzero.v1 import value_pb2, value_pb2_grpc
from vzero_server.decisions.allocation import Allocation, Constraints, allocate
from vzero_server.decisions.utility import Objective
from vzero_server.testing.local_server import LocalServer

POLICIES, ROWS = 100, 256
BETAS = 21


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    options = report.parser(__doc__).parse_args()
    rounds, calls = (1, 2) if options.quick else (9, 8)
    out = report.Report("decisions", options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status(f"creating {POLICIES} policies of {ROWS} outcomes"):
            server = stack.enter_context(LocalServer(folder / "data"))
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            names = [f"policy-{number}" for number in range(POLICIES)]
            policies.append(channel, names, rows=ROWS, pool=ROWS)
            policies.wait_embedded(channel, names)
        bench = Decisions(value_pb2_grpc.ValueServiceStub(channel), names, calls)
        with out.status(f"{rounds} rounds"):
            bench.ranking(0)
            values = report.rounds(rounds, allocating, bench.ranking)
    texts = {
        "allocate_ms": ("512 prompts, 8,192 rollouts", "ms"),
        "bound_ratio": ("their utility over the bound", "ratio"),
        "greedy_ratio": ("utility of the paper's greedy over the bound", "ratio"),
        "exact_ms": ("the optimal allocation", "ms"),
        "predict_ms": ("Predict, known prompt", "ms"),
        "rank_ms": (f"RankModels over {POLICIES} policies, known prompt", "ms"),
        "rank_100_ratio": ("the latter over the former", "ratio"),
        "predict_new_ms": ("Predict, new prompt", "ms"),
        "rank_new_ms": (f"RankModels over {POLICIES} policies, new prompt", "ms"),
        "rank_100_new_ratio": ("the latter over the former", "ratio"),
        "sweep_ms": (f"RankModels with {BETAS} preferences, known prompt", "ms"),
        "sweep_ratio": ("relative to one preference", "ratio"),
    }
    for path, (what, unit) in texts.items():
        out.add(path, what, unit, values[path])
    out.print()


def allocating(number: int) -> dict[str, float]:
    """Allocate to random success rates, in this process."""
    generator = np.random.default_rng(number)
    rates, sample_sizes = generator.random(512), generator.uniform(2.0, 30.0, 512)
    constraints = Constraints(8192)
    allocations: list[Allocation] = []

    def run(objective: Objective, *, exact: bool = False) -> Callable[[], None]:
        def work() -> None:
            allocations.append(allocate(rates, sample_sizes, constraints, objective, exact=exact))

        return work

    allocate_ms = report.milliseconds(run(Objective.EXPECTED), 5)
    ratio = allocations[-1].utility / allocations[-1].upper_bound
    exact_ms = report.milliseconds(run(Objective.EXPECTED, exact=True), 1)
    run(Objective.PAPER)()
    return {
        "allocate_ms": allocate_ms,
        "bound_ratio": ratio,
        "exact_ms": exact_ms,
        "greedy_ratio": allocations[-1].utility / allocations[-1].upper_bound,
    }


@dataclass(frozen=True, slots=True)
class Decisions:
    """Rankings and predictions of a server.

    Attributes:
        stub: Stub of the server.
        names: Names of its policies.
        calls: Calls of each kind per round.
    """

    stub: value_pb2_grpc.ValueServiceStub
    names: list[str]
    calls: int

    def ranking(self, number: int) -> dict[str, float]:
        """Run one round."""
        known = common_prompts(self.calls)
        sweep = [step / (BETAS - 1) for step in range(BETAS)]
        predict = self._each(self._predict, known)
        rank = self._each(lambda prompt: self._rank(prompt, [0.7]), known)
        swept = self._each(lambda prompt: self._rank(prompt, sweep), known)
        fresh = [f"What is {number} times {i}, a new prompt?" for i in range(2 * self.calls)]
        predict_new = self._each(self._predict, fresh[::2])
        rank_new = self._each(lambda prompt: self._rank(prompt, [0.7]), fresh[1::2])
        return {
            "predict_ms": predict,
            "rank_ms": rank,
            "rank_100_ratio": rank / predict,
            "predict_new_ms": predict_new,
            "rank_new_ms": rank_new,
            "rank_100_new_ratio": rank_new / predict_new,
            "sweep_ms": swept,
            "sweep_ratio": swept / rank,
        }

    def _each(self, call: Callable[[str], None], prompts: list[str]) -> float:
        """Median milliseconds of a call."""
        return median(report.milliseconds(lambda prompt=prompt: call(prompt)) for prompt in prompts)  # type: ignore[misc]

    def _predict(self, prompt: str) -> None:
        self.stub.Predict(predict_request(self.names[0], [prompt]), timeout=60.0)

    def _rank(self, prompt: str, betas: list[float]) -> None:
        request = value_pb2.RankModelsRequest(prompts=[prompt], policy_ids=self.names, betas=betas)
        self.stub.RankModels(request, timeout=60.0)


if __name__ == "__main__":
    main()
