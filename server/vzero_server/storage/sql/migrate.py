"""Brings the schema of a database to the newest revision."""

from pathlib import Path

from alembic.command import stamp, upgrade
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from vzero_server.errors import DataFolderError
from vzero_server.storage.sql.schema import metadata


def migrate(connection: Connection) -> None:
    """Create the schema in an empty database, or migrate it to the newest revision.

    Args:
        connection: Inside a transaction that excludes other writers.

    Raises:
        DataFolderError: The schema was written by a newer vzero.
    """
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    revisions = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in revisions:
        raise DataFolderError(
            f"the data folder has schema {current}, written by a newer vzero; "
            f"this one knows up to {script.get_current_head()}"
        )
    if current is None:
        # Much quicker than all migrations, and the same tables.
        metadata.create_all(connection)
        stamp(config, "head")
    elif current != script.get_current_head():
        upgrade(config, "head")
