"""Forked servers behave as spawned ones: separate process, output, signals and exit code."""

import os
import signal
from pathlib import Path

import pytest

from tests.prefork.launcher import PreforkLauncher
from vzero_server.testing.local_server import LocalServer
from vzero_server.testing.process import Launcher, spawn

LAUNCHERS = [PreforkLauncher(), spawn]


@pytest.fixture(params=LAUNCHERS, ids=["forked", "spawned"])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    launcher: Launcher = request.param
    return launcher


@pytest.mark.long
def test_a_server_runs_in_a_separate_process(
    tmp_path: Path, tiny_model: Path, launcher: Launcher
) -> None:
    server = LocalServer(tmp_path / "data", launcher=launcher, backbone=tiny_model)
    server.start()
    assert server.pid != os.getpid()
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait_for_exit() == 0
    assert not server.running
    log = server.log.read_text()
    assert f"vzero is serving on {server.address}" in log
    assert log.rstrip().endswith("stopped")
    # Its data folder and its port are free again.
    server.start()
    server.kill()
    assert server.wait_for_exit() == -signal.SIGKILL
    assert not server.running


def test_a_failed_start_states_its_reason(tmp_path: Path, launcher: Launcher) -> None:
    server = LocalServer(tmp_path / "data", launcher=launcher, backbone=tmp_path / "missing")
    with pytest.raises(RuntimeError, match="vzero serve: backbone"):
        server.start()
    assert server.wait_for_exit() == 1


def test_settings_of_a_server_do_not_apply_to_the_next(tmp_path: Path, tiny_model: Path) -> None:
    settings = {"backbone": tiny_model, "head": "none", "launcher": PreforkLauncher()}
    with LocalServer(tmp_path / "quiet", log_level="warning", **settings) as quiet:
        pass
    with LocalServer(tmp_path / "usual", **settings) as usual:
        pass
    assert "INFO" not in quiet.log.read_text()
    assert "INFO" in usual.log.read_text()
