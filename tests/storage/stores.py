"""The stores that the contract tests run on, and their common reads."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.cached import CachedOutcomeStore
from vzero_server.storage.records import LoggedOutcome, Row
from vzero_server.storage.sql.database import SqlDatabase
from vzero_server.storage.sql.store import SqlOutcomeStore
from vzero_server.storage.sqlite import SqliteDatabase

DATABASES: dict[str, Callable[[Path], SqlDatabase]] = {"sqlite": SqliteDatabase}

# Every engine, behind the cache as in the server, and without it.
STORES: dict[str, Callable[[Path], OutcomeStore]] = {
    f"{name}{suffix}": (lambda folder, open_=open_, layer=layer: layer(open_(folder)))
    for name, open_ in DATABASES.items()
    for suffix, layer in (
        ("", SqlOutcomeStore),
        ("-cached", lambda database: CachedOutcomeStore(SqlOutcomeStore(database))),
    )
}


@asynccontextmanager
async def opened(name: str, folder: Path) -> AsyncIterator[OutcomeStore]:
    """A store in an empty folder, closed at the end."""
    store = STORES[name](folder)
    try:
        yield store
    finally:
        store.close()


async def rows_of(store: OutcomeStore, policy_id: str) -> list[Row]:
    """All outcomes of a policy as rows, oldest first."""
    policy = await store.policy_version(policy_id)
    _, rows = await store.newest_rows(
        policy, 0, after=0, limit=100_000, embedded_rows=0, as_of_step=None
    )
    return rows


async def log_of(store: OutcomeStore, policy_id: str, page: int = 1000) -> list[LoggedOutcome]:
    """All outcomes of a policy, read in pages."""
    policy = await store.policy_version(policy_id)
    logged: list[LoggedOutcome] = []
    while more := await store.outcomes(policy, after=logged[-1].seq if logged else 0, limit=page):
        logged += more
    return logged


async def prompt_keys(store: OutcomeStore, policy_id: str) -> dict[str, int]:
    """Keys of the prompts of a policy by text."""
    keys = {row.prompt_key for row in await rows_of(store, policy_id)}
    return {text: key for key, text in (await store.prompt_texts(list(keys))).items()}
