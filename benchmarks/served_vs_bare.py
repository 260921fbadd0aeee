"""New prompts per second through gRPC, over those of the same model called in-process.

``python -m benchmarks.served_vs_bare [--quick] [--json]``. Headline: ``ratio``. Served: 64
concurrent calls of ``Predict`` with one new prompt each, from a client process: prompts of the
policy zoo made new by a number, and longer made-up ones. Bare: the backbone on the same prompts,
all there at once and sorted by length into batches of the same budget, with as many threads;
nothing of the in-context head. The client shares the cores: ``client_cores`` says how much of
them it takes. Rounds alternate.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from benchmarks import calls, report
from benchmarks.client import ClientProcess
from benchmarks.zoo_prompts import mixed_prompts
from load_tests import policies, sigterm
from vzero_server.testing.local_server import LocalServer

if TYPE_CHECKING:
    from benchmarks.model import InProcessModel

CONCURRENCY = 64
POLICY, ROWS = "asked", 256


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    # Not above: the client process imports this module too, and needs no torch.
    from benchmarks.model import InProcessModel

    given = report.parser(__doc__).parse_args()
    rounds, prompts = (1, 64) if given.quick else (7, 1024)
    out = report.Report("served_vs_bare", given)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status("starting a server, loading the model"):
            server = stack.enter_context(LocalServer(folder / "data"))
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            policies.create(channel, [POLICY], rows=ROWS)
            bench = ServedVsBare(
                server.address,
                InProcessModel(),
                stack.enter_context(ClientProcess()),
                prompts,
            )
            bench.one_round(-1)
        with out.status(f"{rounds} rounds"):
            values = report.rounds(rounds, bench.one_round)
    out.add("ratio", "served over bare", "ratio", values["ratio"])
    for name in ("served_prompts_per_s", "bare_prompts_per_s"):
        out.add(name, name.replace("_", " "), "prompts/s", values[name])
    out.add("client_cores", "cores the client took", "cores", values["client_cores"])
    out.print()


@dataclass(frozen=True, slots=True)
class ServedVsBare:
    """The measurement.

    Attributes:
        address: Of the server.
        model: The backbone in this process.
        client: Makes the calls.
        count: Prompts of a round.
    """

    address: str
    model: "InProcessModel"
    client: ClientProcess
    count: int

    def one_round(self, number: int) -> dict[str, float]:
        """All figures once; ``number`` is that of the round."""
        prompts = mixed_prompts(self.count, f"round {number}")
        single = [[prompt] for prompt in prompts]
        found = self.client.run(calls.ask, self.address, POLICY, single, CONCURRENCY)
        served = self.count / found["seconds"]
        bare = self.count / self.model.seconds(prompts)
        return {
            "ratio": served / bare,
            "served_prompts_per_s": served,
            "bare_prompts_per_s": bare,
            "client_cores": found["cpu_seconds"] / found["seconds"],
        }


if __name__ == "__main__":
    main()
