import pytest

from tests.outcomes import outcome
from vzero_server.errors import UnknownPolicyError
from vzero_server.storage.records import Fleet
from vzero_server.storage.sql import fleets, log
from vzero_server.storage.sqlite import Database


def test_a_fleet_keeps_its_order_and_can_be_replaced(database: Database) -> None:
    with database.writes.begin() as connection:
        for name in "abc":
            log.append(connection, name, [outcome("1")], now=1.0)
        assert fleets.read_fleet(connection, "fleet") is None
        fleets.write_fleet(connection, "fleet", ["c", "a"])
        assert fleets.read_fleet(connection, "fleet") == Fleet("fleet", ("c", "a"))
        fleets.write_fleet(connection, "fleet", ["b", "c", "a"])
        fleets.write_fleet(connection, "another", ["a"])
        assert fleets.list_fleets(connection, "", 10) == [
            Fleet("another", ("a",)),
            Fleet("fleet", ("b", "c", "a")),
        ]
        assert [one.name for one in fleets.list_fleets(connection, "another", 10)] == ["fleet"]
        assert len(fleets.list_fleets(connection, "", 1)) == 1


def test_a_fleet_of_unknown_policies_is_not_stored(database: Database) -> None:
    with database.writes.begin() as connection:
        log.append(connection, "a", [outcome("1")], now=1.0)
        with pytest.raises(UnknownPolicyError, match="'b'"):
            fleets.write_fleet(connection, "fleet", ["a", "b"])
        assert fleets.read_fleet(connection, "fleet") is None


def test_what_is_deleted_leaves_the_other_alone(database: Database) -> None:
    with database.writes.begin() as connection:
        for name in "ab":
            log.append(connection, name, [outcome("1")], now=1.0)
        fleets.write_fleet(connection, "fleet", ["a", "b"])
        log.delete_policy(connection, "a")
        assert fleets.read_fleet(connection, "fleet") == Fleet("fleet", ("b",))
        log.append(connection, "a", [outcome("1")], now=1.0)
        assert fleets.read_fleet(connection, "fleet") == Fleet("fleet", ("b",))
        assert fleets.delete_fleet(connection, "fleet")
        assert not fleets.delete_fleet(connection, "fleet")
        assert log.get_policy(connection, "b") is not None
