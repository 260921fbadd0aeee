"""The locust file against a server."""

import json
import socket
import subprocess
import sys
from pathlib import Path

from vzero_server.testing.local_server import LocalServer

ROOT = Path(__file__).parents[2]


def locust(address: str, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run locust in its own process, because it patches the standard library."""
    command = [sys.executable, "-m", "locust", "-f", "load_tests/locustfile.py", "--headless"]
    command += ["--host", address, "--loglevel", "WARNING", "--json-file", str(out)]
    command += ["--stop-timeout", "30", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )


def test_calls_of_trainers_and_routers_succeed(shared_server: LocalServer, tmp_path: Path) -> None:
    arguments = ["--users", "4", "--spawn-rate", "4", "--run-time", "3s"]
    arguments += ["--batch-min", "4", "--batch-max", "8"]
    process = locust(shared_server.address, tmp_path / "statistics", *arguments)
    assert process.returncode == 0, process.stderr
    requests = json.loads((tmp_path / "statistics.json").read_text())
    counts = {(request["method"], request["name"]): request["num_requests"] for request in requests}
    assert set(counts) == {
        ("TrainerUser", "Predict"),
        ("TrainerUser", "UpdateContext"),
        ("RouterUser", "Predict"),
    }
    assert min(counts.values()) > 0
    assert sum(request["num_failures"] for request in requests) == 0


def test_a_server_that_does_not_answer_fails_the_run(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # without listening
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        process = locust(address, tmp_path / "statistics", "--users", "2", "--run-time", "1s")
    assert process.returncode != 0
    assert "UNAVAILABLE" in process.stderr
