import itertools
from collections.abc import Iterator

import pytest

from tests.api.calls import Stubs
from vzero_server.testing.local_server import LocalServer

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
    """The same for what the tests of a module share."""
    made = Stubs(shared_server)
    yield made
    made.channel.close()


@pytest.fixture
def policy() -> str:
    """A name no other test uses."""
    return f"api-{next(_numbers)}"
