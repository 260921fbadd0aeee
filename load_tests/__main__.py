"""``python -m load_tests``: runs trainers and routers against a local server.

Runs locust's users first, then the asyncio generator. Fails if a call ends in any way other than
a reply or the refusal of an overloaded server.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from load_tests import generator, policies, sigterm
from vzero_server.testing.local_server import LocalServer

# Status codes of an overloaded server; not failures of the run.
EXPECTED = {"RESOURCE_EXHAUSTED"}
# Seconds for calls of locust's users to finish after the run.
_STOPPING = 60
_ROOT = Path(__file__).parents[1]


def main() -> int:
    """Run both load generators and return the exit code."""
    sigterm.exit_cleanly()
    options = _arguments()
    console = Console(stderr=options.json)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-load-")))
        address = options.address
        if address is None:
            with console.status("starting a server"):
                address = stack.enter_context(LocalServer(folder / "data")).address
        with console.status(f"{options.users} locust users for {options.seconds:.0f} s"):
            code, requests = _locust(address, options.users, options.seconds, folder / "locust")
        console.print(_locust_table(options.users, requests))
        loads = []
        for mix, callers in (("router", (1, 8, 64)), ("trainer", (2,))):
            with console.status(f"generator: {mix}s"):
                loads.append(_generated(address, mix, callers, options.seconds / 4))
            console.print(generator.table_of(mix, loads[-1]["levels"]))
    levels = [level for load in loads for level in load["levels"]]
    # A run without replies shows nothing.
    unanswered = not requests or not all(level["answered"] for level in levels)
    failed = unanswered or code != 0 or any(set(level["errors"]) - EXPECTED for level in levels)
    console.print("[red]failed" if failed else "no unexpected errors")
    print(json.dumps({"failed": failed, "locust": requests, "generator": loads}))
    return int(failed)


def _locust(address: str, users: int, seconds: float, out: Path) -> tuple[int, list[Any]]:
    """Run locust without its web page; return its exit code and request statistics."""
    command = [sys.executable, "-m", "locust", "--headless", "--host", address]
    command += ["--locustfile", str(Path(__file__).with_name("locustfile.py"))]
    command += ["--users", str(users), "--spawn-rate", str(users)]
    command += ["--run-time", f"{max(1, round(seconds))}s", "--stop-timeout", str(_STOPPING)]
    command += ["--loglevel", "WARNING", "--json-file", str(out)]
    limit = seconds + 3 * _STOPPING
    process = subprocess.run(command, cwd=_ROOT, stdout=sys.stderr, timeout=limit, check=False)
    statistics = out.with_suffix(".json")
    requests = json.loads(statistics.read_text()) if statistics.exists() else []
    return process.returncode, requests


def _generated(address: str, mix: Any, callers: tuple[int, ...], seconds: float) -> dict[str, Any]:  # noqa: ANN401
    seed = f"{time.time_ns():x}"
    names = policies.names(mix, seed, callers)
    load = generator.Load(address, mix, names, seconds=max(1.0, seconds), seed=seed)
    levels = generator.levels(load, callers, temporary_policies=True)
    return {"mix": mix, "seed": seed, "levels": levels}


def _locust_table(users: int, requests: list[Any]) -> Table:
    table = Table(title=f"locust: {users} users, milliseconds per call")
    for column in ("user", "call", "calls", "failed", "mean", "slowest"):
        table.add_column(column, justify="left" if column in {"user", "call"} else "right")
    for request in sorted(requests, key=lambda request: (request["method"], request["name"])):
        count = request["num_requests"]
        table.add_row(
            request["method"],
            request["name"],
            str(count),
            str(request["num_failures"]),
            f"{request['total_response_time'] / max(1, count):.1f}",
            f"{request['max_response_time']:.1f}",
        )
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="load_tests", description=__doc__)
    parser.add_argument("--users", type=int, default=12, help="number of locust users, default: 12")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="seconds of locust, default: 20"
    )
    parser.add_argument("--address", help="host:port of a running server; default: start one")
    parser.add_argument("--json", action="store_true", help="print only the JSON line to stdout")
    options = parser.parse_args()
    if not (0 < options.seconds <= 3600 and 0 < options.users <= 10_000):
        parser.error("--seconds must be in 0…3600, --users in 1…10000")
    return options


if __name__ == "__main__":
    sys.exit(main())
