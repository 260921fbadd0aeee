"""Goodput and latency under overload: ten times the new prompts that the server can embed.

``python -m benchmarks.overload [--quick] [--json]``. Headlines: ``goodput_ratio``, answered prompts
per second divided by those at full load, and ``admitted_p99_ratio``, the p99 of successful calls
divided by that at full load. Full load is a closed loop, before and after the overload, with as
many callers as queue 3 s of work, of the 5 s from which on the server refuses calls. Calls have
four prompts. Refusals must be RESOURCE_EXHAUSTED with a retry delay. The server's memory is
measured before and after.
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

POLICY, ROWS = "policy", 256
PROMPTS, TIMES = 4, 10
# Seconds of queued work at full load, and seconds from which on the server refuses calls.
DELAY, MAX_DELAY = 3.0, 5.0


def main() -> None:
    """Measure and report."""
    sigterm.exit_cleanly()
    options = report.parser(__doc__).parse_args()
    seconds = 4.0 if options.quick else 30.0
    out = report.Report("overload", options)
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
        memory_before = bench.memory_mb()
        with out.status(f"{TIMES} times the load for {seconds} s"):
            over = bench.overload(TIMES * before["prompts_per_s"], seconds)
        memory_after = bench.memory_mb()
        with out.status("full load again"):
            after = bench.full_load("after", full_calls, callers)
    _add(out, [before, after], over)
    out.add("rss_mb.before", "memory before", "MB", [memory_before])
    out.add("rss_mb.after", "memory after", "MB", [memory_after])
    out.print()


@dataclass(frozen=True, slots=True)
class Overload:
    """The measurements."""

    server: LocalServer
    client: ClientProcess

    def full_load(self, seed: str, count: int, callers: int) -> dict[str, float]:
        """Prompts per second and p99 of ``count`` calls from ``callers`` concurrent callers."""
        texts = new_zoo_prompts(count * PROMPTS, f"full {seed}")
        batches = [texts[at : at + PROMPTS] for at in range(0, len(texts), PROMPTS)]
        figures = self.client.run(calls.predict_all, self.server.address, POLICY, batches, callers)
        return {"prompts_per_s": len(texts) / figures["seconds"], **figures}

    def overload(self, prompts_per_s: float, seconds: float) -> dict[str, Any]:
        """Results of calls at a fixed rate; see ``flood``."""
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
    peaks = [figures["prompts_per_s"] for figures in full]
    p99s = [figures["p99_ms"] for figures in full]
    goodput = [over["answered_per_s"] / peak for peak in peaks]
    out.add("goodput_ratio", "answered prompts over those at full load", "ratio", goodput)
    slowdown = [over["p99_ms"] / p99 for p99 in p99s]
    out.add("admitted_p99_ratio", "p99 of successful calls over full load", "ratio", slowdown)
    out.add("full.prompts_per_s", "full load", "prompts/s", peaks)
    out.add("full.p99_ms", "p99 at full load", "ms", p99s)
    out.add("over.offered_per_s", "offered", "prompts/s", [over["offered_per_s"]])
    out.add("over.answered_per_s", "answered", "prompts/s", [over["answered_per_s"]])
    out.add("over.p50_ms", "p50 of successful calls", "ms", [over["p50_ms"]])
    out.add("over.p99_ms", "p99 of successful calls", "ms", [over["p99_ms"]])
    codes = Counter(over["codes"])
    refused = codes.pop("RESOURCE_EXHAUSTED", 0)
    out.add("refused_calls", "RESOURCE_EXHAUSTED", "calls", [refused])
    out.add(
        "without_retry_info",
        "failed calls without a retry delay",
        "calls",
        [over["without_retry_info"]],
    )
    out.add("failed_otherwise", "calls failed with other codes", "calls", [codes.total()])


if __name__ == "__main__":
    main()
