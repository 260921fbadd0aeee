"""Statements on fleets, the named lists of policies."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select

from vzero_server.errors import UnknownPolicyError
from vzero_server.storage.records import Fleet
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.prompts import batches


def write_fleet(connection: Connection, tenant: str, name: str, policy_ids: Sequence[str]) -> Fleet:
    """Create or replace a fleet.

    Args:
        connection: Inside a write transaction.
        tenant: The owner of the fleet and its policies.
        name: The fleet's name.
        policy_ids: Its policies, each once.

    Raises:
        UnknownPolicyError: A policy is unknown.
    """
    policy, member = schema.policy.c, schema.fleet_member
    policy_keys: dict[str, int] = {}
    for batch in batches(policy_ids):
        statement = select(policy.policy_id, policy.key).where(
            policy.tenant == tenant, policy.policy_id.in_(batch)
        )
        policy_keys |= {row.policy_id: row.key for row in connection.execute(statement)}
    for policy_id in policy_ids:
        if policy_id not in policy_keys:
            raise UnknownPolicyError(policy_id)
    key = _key(connection, tenant, name)
    if key is None:
        connection.execute(insert(schema.fleet).values(tenant=tenant, name=name))
        key = _key(connection, tenant, name)
    connection.execute(delete(member).where(member.c.fleet_key == key))
    connection.execute(
        insert(member),
        [
            {"fleet_key": key, "position": position, "policy_key": policy_keys[policy_id]}
            for position, policy_id in enumerate(policy_ids)
        ],
    )
    return Fleet(name, tuple(policy_ids))


def read_fleet(connection: Connection, tenant: str, name: str) -> Fleet | None:
    """Look up a fleet by name; deleted policies are no longer part of it."""
    key = _key(connection, tenant, name)
    return None if key is None else Fleet(name, _members(connection, key))


def list_fleets(connection: Connection, tenant: str, after: str, limit: int) -> list[Fleet]:
    """List up to ``limit`` fleets whose names sort after ``after``, in order of name."""
    fleet = schema.fleet.c
    statement = (
        select(fleet.key, fleet.name)
        .where(fleet.tenant == tenant, fleet.name > after)
        .order_by(fleet.name)
        .limit(limit)
    )
    rows = connection.execute(statement).all()
    return [Fleet(row.name, _members(connection, row.key)) for row in rows]


def delete_fleet(connection: Connection, tenant: str, name: str) -> bool:
    """Delete a fleet, and return whether it existed."""
    key = _key(connection, tenant, name)
    if key is None:
        return False
    connection.execute(delete(schema.fleet_member).where(schema.fleet_member.c.fleet_key == key))
    connection.execute(delete(schema.fleet).where(schema.fleet.c.key == key))
    return True


def _key(connection: Connection, tenant: str, name: str) -> int | None:
    fleet = schema.fleet.c
    return connection.scalar(select(fleet.key).where(fleet.tenant == tenant, fleet.name == name))


def _members(connection: Connection, fleet_key: int) -> tuple[str, ...]:
    member = schema.fleet_member.c
    statement = (
        select(schema.policy.c.policy_id)
        .join(schema.fleet_member, member.policy_key == schema.policy.c.key)
        .where(member.fleet_key == fleet_key)
        .order_by(member.position)
    )
    return tuple(connection.scalars(statement))
