"""``python -m load_tests``: trainers and routers against a local server for a while.

First locust's users, then the asyncio generator. Fails when a call ended in any other
way than an answer or the refusal of a full server.
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

from load_tests import generator, sigterm
from vzero_server.testing.local_server import LocalServer

# Refusals of a full server are what it should do.
EXPECTED = {"RESOURCE_EXHAUSTED"}
# Seconds the calls of locust's users get to finish.
_STOPPING = 60
_ROOT = Path(__file__).parents[1]


def main() -> int:
    """Run everything; returns the exit code."""
    sigterm.exit_cleanly()
    given = _arguments()
    console = Console(stderr=given.json)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vzero-load-")))
        address = given.address
        if address is None:
            with console.status("starting a server"):
                address = stack.enter_context(LocalServer(folder / "data")).address
        with console.status(f"{given.users} users of locust for {given.seconds:.0f} s"):
            code, requests = _locust(address, given.users, given.seconds, folder / "locust")
        console.print(_locust_table(given.users, requests))
        loads = []
        for mix, callers in (("router", (1, 8, 64)), ("trainer", (2,))):
            with console.status(f"the generator's {mix}s"):
                loads.append(_generated(address, mix, callers, given.seconds / 4))
            console.print(generator.table_of(mix, loads[-1]["levels"]))
    every = [level for load in loads for level in load["levels"]]
    # A run in which nobody was answered shows nothing.
    silent = not requests or not all(level["answered"] for level in every)
    failed = silent or code != 0 or any(set(level["errors"]) - EXPECTED for level in every)
    console.print("[red]failed" if failed else "no unexpected errors")
    print(json.dumps({"failed": failed, "locust": requests, "generator": loads}))
    return int(failed)


def _locust(address: str, users: int, seconds: float, out: Path) -> tuple[int, list[Any]]:
    """Run locust without its page; returns its exit code and what it counted."""
    command = [sys.executable, "-m", "locust", "--headless", "--host", address]
    command += ["--locustfile", str(Path(__file__).with_name("locustfile.py"))]
    command += ["--users", str(users), "--spawn-rate", str(users)]
    command += ["--run-time", f"{max(1, round(seconds))}s", "--stop-timeout", str(_STOPPING)]
    command += ["--loglevel", "WARNING", "--json-file", str(out)]
    limit = seconds + 3 * _STOPPING
    done = subprocess.run(command, cwd=_ROOT, stdout=sys.stderr, timeout=limit, check=False)
    written = out.with_suffix(".json")
    return done.returncode, json.loads(written.read_text()) if written.exists() else []


def _generated(address: str, mix: Any, callers: tuple[int, ...], seconds: float) -> dict[str, Any]:  # noqa: ANN401
    seed = f"{time.time_ns():x}"
    policies = generator.own_policies(mix, seed, callers)
    load = generator.Load(address, mix, policies, seconds=max(1.0, seconds), seed=seed)
    return {"mix": mix, "seed": seed, "levels": generator.levels(load, callers, own=True)}


def _locust_table(users: int, requests: list[Any]) -> Table:
    table = Table(title=f"locust: {users} users, milliseconds per call")
    for column in ("user", "call", "calls", "failed", "mean", "slowest"):
        table.add_column(column, justify="left" if column in {"user", "call"} else "right")
    for one in sorted(requests, key=lambda one: (one["method"], one["name"])):
        count = one["num_requests"]
        table.add_row(
            one["method"],
            one["name"],
            str(count),
            str(one["num_failures"]),
            f"{one['total_response_time'] / max(1, count):.1f}",
            f"{one['max_response_time']:.1f}",
        )
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="load_tests", description=__doc__)
    parser.add_argument("--users", type=int, default=12, help="locust users, 12")
    parser.add_argument("--seconds", type=float, default=20.0, help="of locust, 20")
    parser.add_argument("--address", help="host:port of a running server; default: starts one")
    parser.add_argument("--json", action="store_true", help="stdout holds only the JSON line")
    given = parser.parse_args()
    if not (0 < given.seconds <= 3600 and 0 < given.users <= 10_000):
        parser.error("--seconds must lie in 0…3600, --users in 1…10000")
    return given


if __name__ == "__main__":
    sys.exit(main())
