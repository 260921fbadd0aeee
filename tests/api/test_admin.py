"""The admin port of a server."""

import socket
import subprocess
import sys
from pathlib import Path

import grpc

from benchmarks.server_metrics import metric
from tests.api.admin import get
from tests.api.calls import Stubs, refused
from tests.api.conftest import LoadingServer
from tests.outcomes import chunk, sums
from tests.waiting import wait_until
from vzero_server.testing.local_server import LocalServer


def test_metrics_follow_the_calls(tmp_path: Path, tiny_model: Path) -> None:
    with LocalServer(tmp_path / "data", backbone=tiny_model) as server:
        stubs = Stubs(server)
        stubs.update(chunk("p", sums(20)), chunk("p", sums(30)))
        for _ in range(3):
            stubs.predict("p", ["a prompt", "another prompt"])
        with refused(grpc.StatusCode.NOT_FOUND):
            stubs.predict("unknown", ["a prompt"])

        counted = "vzero_request_seconds_count"
        assert metric(server, counted, method="Predict", code="OK") == 3
        assert metric(server, counted, method="Predict", code="NOT_FOUND") == 1
        assert metric(server, "vzero_streams_total", method="UpdateContext", code="OK") == 1
        assert metric(server, "vzero_outcomes_total", result="accepted") == 30
        assert metric(server, "vzero_outcomes_total", result="duplicate") == 20
        assert metric(server, "vzero_append_seconds_count") == 2
        assert metric(server, "vzero_commit_seconds_count") >= 2
        assert metric(server, "vzero_cache_hits_total", cache="contexts") == 2
        assert metric(server, "vzero_cache_misses_total", cache="contexts") == 1
        # Both prompts, twice; the third time is the first.
        assert metric(server, "vzero_cache_hits_total", cache="features") >= 4
        assert metric(server, "vzero_embedding_seconds_count") >= 1
        assert metric(server, "vzero_tokenise_seconds_count") >= 1
        assert metric(server, "vzero_embedding_batch_tokens_sum") > 0
        assert metric(server, "vzero_estimator_seconds_count") == 3
        assert metric(server, "vzero_queue_seconds_count", queue="estimator") == 3
        assert metric(server, "vzero_context_lag_versions_sum") == 0
        assert metric(server, "vzero_cached_policies") == 1
        for name in ("window_cache_bytes", "context_cache_bytes", "feature_cache_bytes"):
            assert metric(server, f"vzero_{name}") > 0
        assert metric(server, "vzero_streams_open") == 0
        # Metrics do not contain names of policies.
        assert "unknown" not in get(server, "/metrics")[1]


def test_probes_distinguish_live_from_ready(loading_server: LoadingServer) -> None:
    server = loading_server

    def listens() -> bool:
        try:
            return get(server, "/healthz") == (200, "ok")
        except OSError:
            assert server.running
            return False

    wait_until(listens)
    assert get(server, "/readyz") == (503, "the server is starting")
    server.finish_loading()
    server.wait()
    assert get(server, "/readyz") == (200, "ok")
    assert get(server, "/")[0] == 404
    assert server.terminate() == 0
    assert "Traceback" not in server.log.read_text()


def test_an_admin_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "vzero_server", "--port", "0"),
                *("--admin-port", str(port), "--data-dir", str(tmp_path / "data")),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    assert "for admin" in lines[0]
