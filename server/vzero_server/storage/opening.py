"""Opens the configured store."""

from pathlib import Path

from vzero_server.observability.metrics import Metrics
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.cached import CachedOutcomeStore
from vzero_server.storage.sql.store import SqlOutcomeStore
from vzero_server.storage.sqlite import SqliteDatabase


def open_store(
    folder: Path, *, max_bytes: int | None = None, metrics: Metrics | None = None
) -> OutcomeStore:
    """Open the store of a data folder, which is created or migrated as needed.

    Args:
        folder: The data folder.
        max_bytes: Most bytes the database may take; None for no limit but the disk's.
        metrics: Where the store reports its measurements.

    Raises:
        DataFolderError: The folder is in use, cannot be read or written, or was written by a
            newer vzero.
    """
    database = SqliteDatabase(folder, max_bytes=max_bytes)
    return CachedOutcomeStore(SqlOutcomeStore(database, metrics=metrics))
