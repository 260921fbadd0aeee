import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.calls import Stubs
from tests.api.faulty_server import HOLD_START, FaultyServer
from vzero_server.testing.local_server import LocalServer


class LoadingServer(FaultyServer):
    """A server that waits before it loads its models."""

    finish_loading: Callable[[], None]


_numbers = itertools.count()


@pytest.fixture
def stubs(shared_server: LocalServer) -> Iterator[Stubs]:
    """Stubs of the shared server, which must still be up afterwards."""
    made = Stubs(shared_server)
    yield made
    made.channel.close()
    assert shared_server.running


@pytest.fixture(scope="module")
def module_stubs(shared_server: LocalServer) -> Iterator[Stubs]:
    """Stubs for the shared fixtures of a module."""
    made = Stubs(shared_server)
    yield made
    made.channel.close()


@pytest.fixture
def loading_server(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LoadingServer]:
    """A server whose models are not loaded before ``finish_loading`` is called."""
    loaded = tmp_path / "loaded"
    monkeypatch.setenv(HOLD_START, str(loaded))
    server = LoadingServer(tmp_path / "data", backbone=tiny_model)
    server.finish_loading = loaded.touch
    server.start(wait=False)
    yield server
    loaded.touch()
    if server.running:
        server.terminate()


@pytest.fixture
def policy() -> str:
    """A name that no other test uses."""
    return f"api-{next(_numbers)}"
