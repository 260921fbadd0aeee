"""Throughput of new prompts through gRPC, relative to the same model in-process.

``python -m benchmarks.served_vs_bare [--quick] [--json]``. Headline: ``ratio``. Served: 64
concurrent calls of ``Predict`` with one new prompt each, from a client process: prompts of the
policy zoo, each made new by a number, and longer synthetic ones. Bare: the backbone on the same
prompts, all at once, sorted by length into batches of the same token budget, with as many threads,
without the in-context head. The client shares the cores; ``client_cores`` is its share. Rounds
alternate.
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
POLICY, ROWS = "policy", 256


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    # Imported here: the client process imports this module too, and needs no torch.
    from benchmarks.model import InProcessModel

    options = report.parser(__doc__).parse_args()
    rounds, prompts = (1, 64) if options.quick else (7, 1024)
    out = report.Report("served_vs_bare", options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status("starting a server and loading the model"):
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
    out.add("client_cores", "cores used by the client", "cores", values["client_cores"])
    out.print()


@dataclass(frozen=True, slots=True)
class ServedVsBare:
    """The measurement.

    Attributes:
        address: Address of the server.
        model: The backbone in this process.
        client: Process that makes the calls.
        count: Prompts per round.
    """

    address: str
    model: "InProcessModel"
    client: ClientProcess
    count: int

    def one_round(self, number: int) -> dict[str, float]:
        """Run one round."""
        prompts = mixed_prompts(self.count, f"round {number}")
        batches = [[prompt] for prompt in prompts]
        figures = self.client.run(calls.predict_all, self.address, POLICY, batches, CONCURRENCY)
        served = self.count / figures["seconds"]
        bare = self.count / self.model.seconds(prompts)
        return {
            "ratio": served / bare,
            "served_prompts_per_s": served,
            "bare_prompts_per_s": bare,
            "client_cores": figures["cpu_seconds"] / figures["seconds"],
        }


if __name__ == "__main__":
    main()
