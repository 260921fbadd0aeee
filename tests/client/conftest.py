"""Fixtures of the client's tests."""

from collections.abc import Iterator

import pytest

from vzero_server.testing.local_server import LocalServer


@pytest.fixture
def mortal_server(shared_server: LocalServer) -> Iterator[LocalServer]:
    """The shared server, which the test may kill; it is started again afterwards."""
    yield shared_server
    if not shared_server.running:
        shared_server.start()
