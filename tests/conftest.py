"""Fixtures: servers on loopback, and a small model."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import vzero
from tests.prefork.launcher import PreforkLauncher
from tests.tiny_model import save_tiny_model
from vzero_server.model.backbone import Backbone
from vzero_server.testing.local_server import LocalServer

# A busy machine takes any time for an example.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with long tests first, so that parallel processes end at about the same time."""
    long_files = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long_files)


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
def _server_of_all_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(tmp_path_factory.mktemp("shared") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def shared_server(_server_of_all_modules: LocalServer) -> Iterator[LocalServer]:
    """One server for all tests that leave it running; policy names of a module must be unique.

    A module begins without policies: outcomes of other modules on the same prompts would correct
    its values as those of peers do, and which modules came before is not known.
    """
    yield _server_of_all_modules
    with vzero.Client(_server_of_all_modules.address) as client:
        for fleet in client.fleets():
            client.delete_fleet(fleet.name)
        for policy in client.policies():
            client.delete(policy.policy_id)


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
