"""Decisions: allocations against their bound, rankings against one ``Predict``.

``python -m benchmarks.decisions [--quick] [--json]``. Headlines: ``allocate_ms``, 8,192 rollouts
over 512 prompts of random success rates, and ``bound_ratio``, what share of the certified
bound they reach; ``rank_100_ratio``, one prompt over 100 policies in comparison with one
``Predict`` in the same round; ``sweep_ratio``, the same ranking for 21 preferences in comparison
with one. All calls are lone ones; ``new`` are those for prompts that were never seen.
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
    given = report.parser(__doc__).parse_args()
    rounds, calls = (1, 2) if given.quick else (9, 8)
    out = report.Report("decisions", given)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status(f"{POLICIES} policies of {ROWS} outcomes"):
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
        "bound_ratio": ("their worth in comparison with the bound", "ratio"),
        "greedy_ratio": ("the paper's greedy, likewise", "ratio"),
        "exact_ms": ("the optimum", "ms"),
        "predict_ms": ("lone Predict, known prompt", "ms"),
        "rank_ms": (f"RankModels over {POLICIES} policies, known prompt", "ms"),
        "rank_100_ratio": ("the latter over the former", "ratio"),
        "predict_new_ms": ("lone Predict, new prompt", "ms"),
        "rank_new_ms": (f"RankModels over {POLICIES} policies, new prompt", "ms"),
        "rank_100_new_ratio": ("the latter over the former", "ratio"),
        "sweep_ms": (f"RankModels with {BETAS} preferences, known prompt", "ms"),
        "sweep_ratio": ("in comparison with one preference", "ratio"),
    }
    for path, (what, unit) in texts.items():
        out.add(path, what, unit, values[path])
    out.print()


def allocating(number: int) -> dict[str, float]:
    """Allocate to random success rates, in this process."""
    generator = np.random.default_rng(number)
    rates, worth = generator.random(512), generator.uniform(2.0, 30.0, 512)
    constraints = Constraints(8192)
    found: list[Allocation] = []

    def run(objective: Objective, *, exact: bool = False) -> Callable[[], None]:
        def once() -> None:
            found.append(allocate(rates, worth, constraints, objective, exact=exact))

        return once

    taken = report.milliseconds(run(Objective.EXPECTED), 5)
    ratio = found[-1].utility / found[-1].upper_bound
    exactly = report.milliseconds(run(Objective.EXPECTED, exact=True), 1)
    run(Objective.PAPER)()
    return {
        "allocate_ms": taken,
        "bound_ratio": ratio,
        "exact_ms": exactly,
        "greedy_ratio": found[-1].utility / found[-1].upper_bound,
    }


@dataclass(frozen=True, slots=True)
class Decisions:
    """Rankings and predictions of a server.

    Attributes:
        stub: The server.
        names: Its policies.
        calls: Calls of each kind in a round.
    """

    stub: value_pb2_grpc.ValueServiceStub
    names: list[str]
    calls: int

    def ranking(self, number: int) -> dict[str, float]:
        """All rankings once; ``number`` is that of the round."""
        known = common_prompts(self.calls)
        sweep = [step / (BETAS - 1) for step in range(BETAS)]
        predict = self._each(self._predict, known)
        rank = self._each(lambda prompt: self._rank(prompt, [0.7]), known)
        swept = self._each(lambda prompt: self._rank(prompt, sweep), known)
        fresh = [f"What is {number} times {i}, nobody asked?" for i in range(2 * self.calls)]
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
        return median(report.milliseconds(lambda one=prompt: call(one)) for prompt in prompts)  # type: ignore[misc]

    def _predict(self, prompt: str) -> None:
        self.stub.Predict(predict_request(self.names[0], [prompt]), timeout=60.0)

    def _rank(self, prompt: str, betas: list[float]) -> None:
        request = value_pb2.RankModelsRequest(prompts=[prompt], policy_ids=self.names, betas=betas)
        self.stub.RankModels(request, timeout=60.0)


if __name__ == "__main__":
    main()
