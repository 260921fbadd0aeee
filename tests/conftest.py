"""Fixtures: servers on loopback, and a small model."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.prefork.launcher import PreforkLauncher
from tests.tiny_model import save_tiny_model
from vzero_server.model.backbone import Backbone
from vzero_server.testing.local_server import LocalServer

# A busy machine takes any time for an example.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def _preforked_servers() -> None:
    """Fork servers from a process that has imported torch; elsewhere than on Linux, spawn them."""
    if sys.platform == "linux":
        LocalServer.launcher = PreforkLauncher()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    """A server that the test may kill and start again."""
    with LocalServer(tmp_path / "data") as running:
        yield running


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """One server for all tests that leave it unchanged; policy names must be unique."""
    with LocalServer(tmp_path_factory.mktemp("shared") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small sentence-transformers model of random weights."""
    folder = tmp_path_factory.mktemp("tiny-model")
    save_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_backbone(tiny_model: Path) -> Backbone:
    """The small model, loaded."""
    return Backbone.load(str(tiny_model))
