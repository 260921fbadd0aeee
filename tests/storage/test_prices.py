import sqlite3
from pathlib import Path

import pytest

from tests.outcomes import outcome
from vzero_server.storage.records import Price, PriceUnit
from vzero_server.storage.sql import log
from vzero_server.storage.sqlite import Database


def test_costs_and_tokens_are_averaged_over_the_outcomes_that_name_them(database: Database) -> None:
    with database.writes.begin() as connection:
        log.append(connection, "a", [outcome("1"), outcome("2", cost=4.0)], now=1.0)
        record = log.get_policies(connection, ["a", "nobody"])[0]
        assert (record.mean_cost, record.mean_tokens) == (4.0, None)
        more = [outcome("3", cost=1.0, tokens=100.0, decision_id="d"), outcome("2", cost=9.0)]
        log.append(connection, "a", more, now=1.0)
        found = log.get_policy(connection, "a")
        assert found is not None
        assert (found.mean_cost, found.mean_tokens) == (2.5, 100.0)
        logged = log.read_outcomes(connection, found.at_version, after=0, limit=10)
        assert logged is not None
        stored = [row.outcome for row in logged]
        assert [(o.cost, o.tokens, o.decision_id) for o in stored] == [
            (None, None, None),
            (4.0, None, None),
            (1.0, 100.0, "d"),
        ]


def test_price_and_labels_are_set_apart(database: Database) -> None:
    with database.writes.begin() as connection:
        price = Price(7.0, PriceUnit.PARAMS)
        record = log.update_policy(connection, "new", {"price": price}, now=5.0)
        assert (record.version, record.price, record.labels) == (0, price, {})
        record = log.update_policy(connection, "new", {"labels": {"region": "eu"}}, now=6.0)
        assert (record.price, record.labels, record.updated_at) == (price, {"region": "eu"}, 6.0)
        record = log.update_policy(connection, "new", {"price": None}, now=7.0)
        assert (record.price, record.labels) == (None, {"region": "eu"})
        assert log.append(connection, "new", [outcome("1")], now=8.0).policy.version == 1


def test_an_older_folder_learns_what_its_outcomes_cost(tmp_path: Path) -> None:
    database = Database(tmp_path)
    with database.writes.begin() as connection:
        log.append(connection, "a", [outcome("1", cost=4.0), outcome("2")], now=1.0)
        log.append(connection, "b", [outcome("1")], now=1.0)
    database.close()
    with sqlite3.connect(tmp_path / "vzero.sqlite3") as old:
        for table in ("fleet_member", "fleet"):
            old.execute(f"DROP TABLE {table}")
        for column in ("cost_sum", "cost_outcomes", "token_sum", "token_outcomes"):
            old.execute(f"ALTER TABLE policy DROP COLUMN {column}")
        for column in ("price", "price_unit", "labels"):
            old.execute(f"ALTER TABLE policy DROP COLUMN {column}")
        for column in ("tokens", "decision_id"):
            old.execute(f"ALTER TABLE outcome DROP COLUMN {column}")
        old.execute("UPDATE alembic_version SET version_num = '0002'")
    old.close()
    database = Database(tmp_path)
    with database.reads.begin() as connection:
        costs = [record.mean_cost for record in log.list_policies(connection, "", 10)]
    database.close()
    assert costs == [pytest.approx(4.0), None]
