"""Opens the configured store."""

from pathlib import Path

from vzero_server.observability.metrics import Metrics
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.cached import ContextStore
from vzero_server.storage.sqlite import Database


def open_store(
    folder: Path, *, max_bytes: int | None = None, metrics: Metrics | None = None
) -> OutcomeStore:
    """Open the store in a data folder, creating or migrating it as needed.

    Args:
        folder: The data folder.
        max_bytes: Most bytes the database may take; None for no limit but the disk's.
        metrics: Where the store reports its measurements.

    Raises:
        DataFolderError: The folder is in use, cannot be read or written, or was written by a
            newer vzero.
    """
    return ContextStore(Database(folder, max_bytes=max_bytes), metrics=metrics)
