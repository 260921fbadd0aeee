"""Ten times as many new prompts as the server can take, for half a minute.

``python -m benchmarks.overload [--quick] [--json]``. Headlines: ``goodput_ratio``, prompts answered
per second over those at full load, and ``admitted_p99_ratio``, the p99 of calls that were answered
over that at full load. Full load is a closed loop, before and after the overload: callers with
their next call as soon as one is answered, as many as keep the backbone 3 s late, of the 5 s
after which the server refuses. Calls carry four prompts. Every refusal must be RESOURCE_EXHAUSTED
and say when to come again; the server's memory is read before and after.
"""

import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil

from benchmarks import calls, report
from benchmarks.client import ClientProcess
from benchmarks.flood import flood
from benchmarks.zoo_prompts import new_zoo_prompts
from load_tests import policies, sigterm
from vzero_server.testing.local_server import LocalServer

POLICY, ROWS = "asked", 256
PROMPTS, TIMES = 4, 10
# Seconds of work that wait at full load, of the 5 after which the server refuses.
DELAY, MAX_DELAY = 3.0, 5.0


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    given = report.parser(__doc__).parse_args()
    seconds = 4.0 if given.quick else 30.0
    out = report.Report("overload", given)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-bench-")))
        with out.status("starting a server"):
            server = stack.enter_context(LocalServer(folder / "data", max_queue_delay=MAX_DELAY))
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            policies.create(channel, [POLICY], rows=ROWS)
        bench = Overload(server, stack.enter_context(ClientProcess()))
        with out.status("full load"):
            rate = bench.full_load("warm-up", 40, 8)["prompts_per_s"]
            callers = max(8, int(DELAY * rate / PROMPTS))
            full_calls = callers + int(seconds * rate / PROMPTS)
            before = bench.full_load("before", full_calls, callers)
        memory = bench.memory_mb()
        with out.status(f"{TIMES} times as much for {seconds} s"):
            over = bench.overload(TIMES * before["prompts_per_s"], seconds)
        grown = bench.memory_mb()
        with out.status("full load again"):
            after = bench.full_load("after", full_calls, callers)
    _add(out, [before, after], over)
    out.add("rss_mb.before", "memory before", "MB", [memory])
    out.add("rss_mb.after", "memory after", "MB", [grown])
    out.print()


@dataclass(frozen=True, slots=True)
class Overload:
    """The measurements."""

    server: LocalServer
    client: ClientProcess

    def full_load(self, seed: str, count: int, callers: int) -> dict[str, float]:
        """Prompts per second and p99 of calls, so many at once."""
        texts = new_zoo_prompts(count * PROMPTS, f"full {seed}")
        split = [texts[at : at + PROMPTS] for at in range(0, len(texts), PROMPTS)]
        found = self.client.run(calls.ask, self.server.address, POLICY, split, callers)
        return {"prompts_per_s": len(texts) / found["seconds"], **found}

    def overload(self, prompts_per_s: float, seconds: float) -> dict[str, Any]:
        """What became of calls at that rate."""
        return self.client.run(
            flood,
            self.server.address,
            POLICY,
            rate=prompts_per_s / PROMPTS,
            seconds=seconds,
            prompts=PROMPTS,
            seed="flood",
        )

    def memory_mb(self) -> float:
        """Resident memory of the server, in MB of 10^6 bytes."""
        resident: int = psutil.Process(self.server.pid).memory_info().rss
        return resident / 1e6


def _add(out: report.Report, full: list[dict[str, float]], over: dict[str, Any]) -> None:
    peak = [one["prompts_per_s"] for one in full]
    p99 = [one["p99_ms"] for one in full]
    goodput = [over["answered_per_s"] / one for one in peak]
    out.add("goodput_ratio", "prompts answered over those at full load", "ratio", goodput)
    late = [over["p99_ms"] / one for one in p99]
    out.add("admitted_p99_ratio", "p99 of answered calls over full load", "ratio", late)
    out.add("full.prompts_per_s", "full load", "prompts/s", peak)
    out.add("full.p99_ms", "p99 at full load", "ms", p99)
    out.add("over.offered_per_s", "offered", "prompts/s", [over["offered_per_s"]])
    out.add("over.answered_per_s", "answered", "prompts/s", [over["answered_per_s"]])
    out.add("over.p50_ms", "p50 of answered calls", "ms", [over["p50_ms"]])
    out.add("over.p99_ms", "p99 of answered calls", "ms", [over["p99_ms"]])
    codes = Counter(over["codes"])
    refused = codes.pop("RESOURCE_EXHAUSTED", 0)
    out.add("refused_calls", "RESOURCE_EXHAUSTED", "calls", [refused])
    out.add(
        "without_retry_info",
        "failures that do not say when to come again",
        "calls",
        [over["without_retry_info"]],
    )
    out.add("failed_otherwise", "calls that failed in another way", "calls", [codes.total()])


if __name__ == "__main__":
    main()
