"""The data folder: its lock, its SQLite database and the schema's version."""

import sqlite3
from pathlib import Path
from typing import Any

from alembic.command import upgrade
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import QueuePool, StaticPool

from vzero_server.errors import DataFolderError

PAGE_BYTES = 4096


class Database:
    """An open data folder.

    Attributes:
        writes: Engine with one connection, whose transactions take the write lock at once.
        reads: Engine with a small pool of connections that see the last commit.

    Raises:
        DataFolderError: The folder is in use, cannot be read or written, or holds the
            schema of a newer vzero.
    """

    def __init__(self, folder: Path, *, max_bytes: int | None = None, readers: int = 2) -> None:
        """Open the folder, creating it or bringing it to the current schema.

        Args:
            folder: The data folder.
            max_bytes: Most bytes the database may take; appends beyond are refused as on
                a full disk. None: as much as the disk holds.
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

    def close(self) -> None:
        """Close all connections and let go of the folder."""
        self.reads.dispose()
        self.writes.dispose()
        self._lock.release()


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest revision, or refuse one that is newer.

    Raises:
        DataFolderError: The schema was written by a newer vzero.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "sql" / "migrations"))
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        raise DataFolderError(
            f"the data folder has schema {current}, written by a newer vzero; "
            f"this one knows up to {script.get_current_head()}"
        )
    if current != script.get_current_head():
        upgrade(config, "head")


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


def is_full(error: BaseException | None) -> bool:
    """Whether an error says, or came from one that says, that no space is left.

    On a full disk SQLite rolls back the whole transaction, and the attempt to undo a part
    of it then fails as well: the cause hides behind that second error.
    """
    while error is not None:
        cause = error.orig if isinstance(error, DatabaseError) else error
        if getattr(cause, "sqlite_errorname", None) == "SQLITE_FULL":
            return True
        error = error.__context__
    return False
