"""Named lists of policies, as statements on a connection."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from vzero_server.errors import UnknownPolicyError
from vzero_server.storage.records import Fleet
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.prompts import pieces


def write_fleet(connection: Connection, name: str, policy_ids: Sequence[str]) -> Fleet:
    """Store a fleet in place of the one of that name, if any.

    Args:
        connection: Inside a transaction that holds the write lock.
        name: Of the fleet.
        policy_ids: Its policies, each once.

    Raises:
        UnknownPolicyError: One of them is not known.
    """
    policy = schema.policy.c
    keys: dict[str, int] = {}
    for piece in pieces(policy_ids):
        statement = select(policy.policy_id, policy.key).where(policy.policy_id.in_(piece))
        keys |= {row.policy_id: row.key for row in connection.execute(statement)}
    for policy_id in policy_ids:
        if policy_id not in keys:
            raise UnknownPolicyError(policy_id)
    key = _key(connection, name)
    if key is None:
        connection.execute(insert(schema.fleet).values(name=name))
        key = _key(connection, name)
    connection.execute(delete(schema.fleet_member).where(schema.fleet_member.c.fleet_key == key))
    connection.execute(
        insert(schema.fleet_member),
        [
            {"fleet_key": key, "position": position, "policy_key": keys[policy_id]}
            for position, policy_id in enumerate(policy_ids)
        ],
    )
    return Fleet(name, tuple(policy_ids))


def read_fleet(connection: Connection, name: str) -> Fleet | None:
    """Look a fleet up by name; its policies may have been deleted, all of them."""
    key = _key(connection, name)
    return None if key is None else Fleet(name, _members(connection, key))


def list_fleets(connection: Connection, after: str, limit: int) -> list[Fleet]:
    """Up to ``limit`` fleets whose name sorts after ``after``, in order of name."""
    fleet = schema.fleet.c
    statement = select(fleet.key, fleet.name).where(fleet.name > after)
    found = connection.execute(statement.order_by(fleet.name).limit(limit)).all()
    return [Fleet(row.name, _members(connection, row.key)) for row in found]


def delete_fleet(connection: Connection, name: str) -> bool:
    """Delete a fleet; whether there was one."""
    key = _key(connection, name)
    if key is None:
        return False
    connection.execute(delete(schema.fleet_member).where(schema.fleet_member.c.fleet_key == key))
    connection.execute(delete(schema.fleet).where(schema.fleet.c.key == key))
    return True


def _key(connection: Connection, name: str) -> int | None:
    return connection.scalar(select(schema.fleet.c.key).where(schema.fleet.c.name == name))


def _members(connection: Connection, key: int) -> tuple[str, ...]:
    member = schema.fleet_member.c
    statement = (
        select(schema.policy.c.policy_id)
        .join(schema.fleet_member, member.policy_key == schema.policy.c.key)
        .where(member.fleet_key == key)
        .order_by(member.position)
    )
    return tuple(connection.scalars(statement))
