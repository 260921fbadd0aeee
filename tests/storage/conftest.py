"""Fixtures of the contract tests: a new engine is one line in ``stores.DATABASES``."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.storage.stores import DATABASES, STORES, opened
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.sql.database import SqlDatabase


@pytest_asyncio.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OutcomeStore]:
    """An empty store of each engine."""
    async with opened(request.param, tmp_path / "data") as store:
        yield store


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlDatabase]:
    """An empty database of each engine."""
    database = DATABASES[request.param](tmp_path / "data")
    yield database
    database.close()
