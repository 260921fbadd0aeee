import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.outcomes import outcome
from vzero_server.errors import DataFolderError
from vzero_server.storage.records import prompt_digest
from vzero_server.storage.sql import log
from vzero_server.storage.sql.histories import read_histories
from vzero_server.storage.sqlite import SqliteDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    """An empty data folder, open."""
    opened = SqliteDatabase(tmp_path / "data")
    yield opened
    opened.close()


def test_commits_survive_a_power_cut(database: SqliteDatabase) -> None:
    with database.writes.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        full = 2
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full


def test_a_folder_has_one_server(database: SqliteDatabase) -> None:
    with pytest.raises(DataFolderError, match="in use by another server"):
        SqliteDatabase(database.folder)


def test_a_closed_folder_opens_again(tmp_path: Path) -> None:
    for _ in range(2):
        SqliteDatabase(tmp_path / "data").close()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vzero.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(DataFolderError, match="not a database"):
        SqliteDatabase(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataFolderError, match="file"):
        SqliteDatabase(tmp_path / "file" / "data")


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    SqliteDatabase(tmp_path).close()
    with sqlite3.connect(tmp_path / "vzero.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(DataFolderError, match=r"schema 9999, written by a newer vzero"):
        SqliteDatabase(tmp_path)
    with sqlite3.connect(tmp_path / "vzero.sqlite3") as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            ("9999",)
        ]
    connection.close()


def test_a_prompt_is_not_sought_among_all_outcomes_of_its_policy(database: SqliteDatabase) -> None:
    """Such a scan would make values of policies with many outcomes slow."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    with database.writes.begin() as connection:
        chunk = [outcome(f"{i}", f"p{i // 4}") for i in range(8000)]
        key = log.append(connection, "default", "a", chunk, now=1.0).policy.key
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(step, 1)
        histories = read_histories(connection, [key], [prompt_digest("p7")], None)
        driver.set_progress_handler(None, 0)
    assert len(histories[key, prompt_digest("p7")]) == 4
    assert 0 < steps < 1000
