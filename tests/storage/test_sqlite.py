import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from vzero_server.errors import DataFolderError
from vzero_server.storage.sql import schema
from vzero_server.storage.sqlite import Database


def test_migrations_lead_to_the_schema(database: Database) -> None:
    with database.reads.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_commits_survive_a_power_cut(database: Database) -> None:
    with database.writes.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        full = 2
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full


def test_a_folder_has_one_server(database: Database) -> None:
    with pytest.raises(DataFolderError, match="in use by another server"):
        Database(database.folder)


def test_a_closed_folder_opens_again(tmp_path: Path) -> None:
    for _ in range(2):
        Database(tmp_path / "data").close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Database(tmp_path).close()
    with sqlite3.connect(tmp_path / "vzero.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(DataFolderError, match=r"schema 9999, written by a newer vzero"):
        Database(tmp_path)
    with sqlite3.connect(tmp_path / "vzero.sqlite3") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            ("9999",)
        ]
    connection.close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vzero.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(DataFolderError, match="not a database"):
        Database(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataFolderError, match="file"):
        Database(tmp_path / "file" / "data")
