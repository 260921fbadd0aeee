"""Statements on policies: look up, list, update, delete."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from vzero_server.storage.records import PolicyRecord, Price, PriceUnit
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.prompts import batches, drop_orphans

_POLICY = select(schema.policy)


class PolicyCounts(NamedTuple):
    """The key of a policy, its version and the number of its outcomes."""

    key: int
    version: int
    outcomes: int


def get_policy(connection: Connection, tenant: str, policy_id: str) -> PolicyRecord | None:
    """Look up a policy by name."""
    columns = schema.policy.c
    row = connection.execute(
        _POLICY.where(columns.tenant == tenant, columns.policy_id == policy_id)
    ).first()
    return None if row is None else _record(row)


def get_policies(
    connection: Connection, tenant: str, policy_ids: Sequence[str]
) -> list[PolicyRecord]:
    """Look up several policies by name, in any order; unknown ones are left out."""
    columns = schema.policy.c
    return [
        _record(row)
        for batch in batches(policy_ids)
        for row in connection.execute(
            _POLICY.where(columns.tenant == tenant, columns.policy_id.in_(batch))
        )
    ]


def list_policies(
    connection: Connection, tenant: str, after: str, limit: int
) -> list[PolicyRecord]:
    """List up to ``limit`` policies whose names sort after ``after``, in order of name."""
    columns = schema.policy.c
    statement = (
        _POLICY.where(columns.tenant == tenant, columns.policy_id > after)
        .order_by(columns.policy_id)
        .limit(limit)
    )
    return [_record(row) for row in connection.execute(statement)]


def get_or_create(connection: Connection, tenant: str, policy_id: str, now: float) -> PolicyCounts:
    """Look up a policy that is about to change; a new one has version 0.

    Args:
        connection: Inside a write transaction.
        tenant: The owner of the policy.
        policy_id: The policy.
        now: Seconds since the epoch.
    """
    columns = schema.policy.c
    statement = select(columns.key, columns.version, columns.outcomes).where(
        columns.tenant == tenant, columns.policy_id == policy_id
    )
    row = connection.execute(statement).first()
    if row is None:
        connection.execute(
            insert(schema.policy).values(
                tenant=tenant,
                policy_id=policy_id,
                version=0,
                outcomes=0,
                reward_sum=0.0,
                created_at=now,
                updated_at=now,
            )
        )
        row = connection.execute(statement).one()
    return PolicyCounts._make(row)


def update_policy(
    connection: Connection, tenant: str, policy_id: str, fields: Mapping[str, Any], now: float
) -> PolicyRecord:
    """Set the price or the labels of a policy; takes one version.

    Args:
        connection: Inside a write transaction.
        tenant: The owner of the policy.
        policy_id: Created if unknown.
        fields: The fields to set: ``price`` to a ``Price`` or None, ``labels`` to a mapping.
        now: Seconds since the epoch.
    """
    columns = schema.policy.c
    policy = get_or_create(connection, tenant, policy_id, now)
    values: dict[str, Any] = {"version": policy.version + 1, "updated_at": now}
    if "price" in fields:
        price: Price | None = fields["price"]
        values["price"] = price.per_token if price else None
        values["price_unit"] = price.unit.value if price else None
    if "labels" in fields:
        values["labels"] = json.dumps(dict(fields["labels"]), sort_keys=True)
    connection.execute(update(schema.policy).where(columns.key == policy.key).values(values))
    return _record(connection.execute(_POLICY.where(columns.key == policy.key)).one())


def delete_policy(connection: Connection, tenant: str, policy_id: str) -> int | None:
    """Delete a policy, its outcomes, and the prompts that no other policy has.

    Returns:
        The number of outcomes deleted; None if the policy is unknown.
    """
    record = get_policy(connection, tenant, policy_id)
    if record is None:
        return None
    outcome, member = schema.outcome, schema.fleet_member
    prompts = select(outcome.c.prompt_key).where(outcome.c.policy_key == record.key).distinct()
    prompt_keys = list(connection.scalars(prompts))
    connection.execute(delete(outcome).where(outcome.c.policy_key == record.key))
    connection.execute(delete(member).where(member.c.policy_key == record.key))
    connection.execute(delete(schema.policy).where(schema.policy.c.key == record.key))
    drop_orphans(connection, prompt_keys)
    return record.outcomes


def _record(row: Any) -> PolicyRecord:  # noqa: ANN401
    return PolicyRecord(
        key=row.key,
        policy_id=row.policy_id,
        version=row.version,
        outcomes=row.outcomes,
        mean_reward=row.reward_sum / row.outcomes if row.outcomes else 0.0,
        newest_step=row.newest_step,
        created_at=row.created_at,
        updated_at=row.updated_at,
        mean_cost=row.cost_sum / row.cost_outcomes if row.cost_outcomes else None,
        mean_tokens=row.token_sum / row.token_outcomes if row.token_outcomes else None,
        price=None if row.price is None else Price(row.price, PriceUnit(row.price_unit)),
        labels=json.loads(row.labels),
        tenant=row.tenant,
    )
