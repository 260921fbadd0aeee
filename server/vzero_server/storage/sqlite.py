"""The data folder: its lock and its SQLite database."""

import sqlite3
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import QueuePool, StaticPool

from vzero_server.errors import DataFolderError
from vzero_server.storage.sql.migrate import migrate

PAGE_BYTES = 4096


class SqliteDatabase:
    """The SQLite database of a data folder; implements ``SqlDatabase``.

    Attributes:
        folder: The data folder, which is locked until ``close``.
        writes: Engine with one connection, whose transactions take the write lock at once.
        reads: Engine with a small pool of connections that see the last commit.

    Raises:
        DataFolderError: The folder is in use, cannot be read or written, or holds the
            schema of a newer vzero.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None, readers: int = 2) -> None:
        """Open the folder, creating it or migrating it to the current schema.

        Args:
            folder: The data folder.
            max_bytes: Most bytes the database may take; appends beyond are refused as on
                a full disk. None for no limit but the disk's.
            readers: Connections for concurrent reads.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / "lock")
            self._lock.acquire(blocking=False)
        except Timeout:
            raise DataFolderError(f"data folder {folder} is in use by another server") from None
        except OSError as error:
            raise DataFolderError(f"data folder {folder}: {error.strerror or error}") from error
        path = folder / "vzero.sqlite3"
        self.writes = _open(path, pool=StaticPool, begin="BEGIN IMMEDIATE", max_bytes=max_bytes)
        self.reads = _open(path, pool=QueuePool, begin="BEGIN", readers=readers)
        try:
            with self.writes.begin() as connection:
                migrate(connection)
        except (DatabaseError, sqlite3.DatabaseError) as error:
            self.close()
            reason = error.orig if isinstance(error, DatabaseError) else error
            raise DataFolderError(f"data folder {folder}: {reason}") from error
        except DataFolderError:
            self.close()
            raise

    def is_full(self, error: BaseException) -> bool:
        """Return whether a transaction failed because no space is left.

        On a full disk SQLite rolls back the whole transaction, and the attempt to roll back to a
        savepoint then fails as well: SQLITE_FULL is a cause of that second error.
        """
        cause: BaseException | None = error
        while cause is not None:
            driver_error = cause.orig if isinstance(cause, DatabaseError) else cause
            if getattr(driver_error, "sqlite_errorname", None) == "SQLITE_FULL":
                return True
            cause = cause.__context__
        return False

    def close(self) -> None:
        """Close all connections and release the folder."""
        self.reads.dispose()
        self.writes.dispose()
        self._lock.release()


def _open(
    path: Path,
    *,
    pool: type[QueuePool] | type[StaticPool],
    begin: str,
    max_bytes: int | None = None,
    readers: int = 1,
) -> Engine:
    """Create an engine whose transactions begin with the given statement."""
    size: dict[str, Any] = {"pool_size": readers, "max_overflow": 0} if pool is QueuePool else {}
    engine = create_engine(
        f"sqlite:///{path}", poolclass=pool, connect_args={"check_same_thread": False}, **size
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401
        # The driver's own transaction handling would begin too late; see `_begin`.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout=5000",
            "journal_mode=WAL",
            "synchronous=FULL",
            "cache_size=-65536",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        if max_bytes is not None:
            cursor.execute(f"PRAGMA max_page_count={max(1, max_bytes // PAGE_BYTES)}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
