import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.command import upgrade
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

import vzero_server.storage.sql
from tests.outcomes import sums
from vzero_server.storage.opening import open_store
from vzero_server.storage.sql import schema
from vzero_server.storage.sqlite import SqliteDatabase

MIGRATIONS = Path(vzero_server.storage.sql.__path__[0]) / "migrations"


def folder_of(revision: str, folder: Path, script: str = "") -> None:
    """Make a data folder of an older schema, and run statements in it."""
    engine = create_engine(f"sqlite:///{folder / 'vzero.sqlite3'}")
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(MIGRATIONS))
        upgrade(config, revision)
    engine.dispose()
    with closing(sqlite3.connect(folder / "vzero.sqlite3")) as database:
        database.executescript(script)


@pytest.mark.parametrize("revision", [None, "0001"])
def test_migrations_lead_to_the_schema(tmp_path: Path, revision: str | None) -> None:
    if revision:
        folder_of(revision, tmp_path)
    database = SqliteDatabase(tmp_path)
    with database.reads.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        assert context.get_current_revision() == head
    database.close()


def test_new_and_migrated_folders_have_the_same_kinds_of_tables(tmp_path: Path) -> None:
    """Properties of tables that Alembic does not compare: reuse of keys, and storage of rows."""
    folder_of("0001", tmp_path)
    kinds = []
    for folder in (tmp_path, tmp_path / "new"):
        SqliteDatabase(folder).close()
        with closing(sqlite3.connect(folder / "vzero.sqlite3")) as connection:
            tables = connection.execute(
                "SELECT name, sql LIKE '%AUTOINCREMENT%', sql LIKE '%WITHOUT ROWID%' "
                "FROM sqlite_master WHERE type = 'table' ORDER BY name"
            )
            kinds.append(tables.fetchall())
    assert kinds[0] == kinds[1]
    assert ("policy", 1, 0) in kinds[0]


async def test_the_costs_of_outcomes_are_summed(tmp_path: Path) -> None:
    script = """
        INSERT INTO policy (policy_id, version, reward_sum, created_at, updated_at)
        VALUES ('a', 2, 1.0, 1.0, 1.0), ('b', 1, 0.5, 1.0, 1.0);
        INSERT INTO prompt (digest, text) VALUES (x'00', x'70');
        INSERT INTO outcome
            (policy_key, seq, outcome_id, prompt_key, reward, rollouts, cost, observed_at)
        VALUES (1, 1, '1', 1, 0.5, 10, 4.0, 1.0), (1, 2, '2', 1, 0.5, 10, NULL, 1.0),
            (2, 1, '1', 1, 0.5, 10, NULL, 1.0);
    """
    folder_of("0002", tmp_path, script)
    store = open_store(tmp_path)
    costs = [policy.mean_cost for policy in await store.policies("", 10)]
    store.close()
    assert costs == [pytest.approx(4.0), None]


async def test_outcomes_are_counted_and_keys_never_reused(tmp_path: Path) -> None:
    script = """
        INSERT INTO policy (policy_id, version, reward_sum, created_at, updated_at)
        VALUES ('a', 4, 1.0, 1.0, 1.0), ('b', 0, 0.0, 1.0, 1.0), ('gone', 1, 0.5, 1.0, 1.0);
        DELETE FROM policy WHERE policy_id = 'gone';
        INSERT INTO fleet (name) VALUES ('fleet');
        INSERT INTO fleet_member (fleet_key, position, policy_key) VALUES (1, 0, 2), (1, 1, 1);
    """
    folder_of("0003", tmp_path, script)
    store = open_store(tmp_path)
    policies = await store.policies("", 10)
    assert [(p.tenant, p.policy_id, p.version, p.outcomes) for p in policies] == [
        ("default", "a", 4, 4),
        ("default", "b", 0, 0),
    ]
    assert policies[0].mean_reward == 0.25
    assert (await store.fleet("fleet")).policy_ids == ("b", "a")
    appended = await store.append("new", sums(1))
    store.close()
    assert appended.policy.key == 4
