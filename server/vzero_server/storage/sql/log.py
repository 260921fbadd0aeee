"""The durable log of outcomes, as statements on a connection.

Every function runs inside the caller's transaction. The same statements serve SQLite
and PostgreSQL. Order and gaps: ``append`` reads and raises a policy's version within
the transaction that inserts its rows, and appends of one policy never run side by side.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, null, select, update

from vzero_server.storage.records import (
    DEFAULT_TENANT,
    Appended,
    LoggedOutcome,
    Outcome,
    PolicyRecord,
    PolicyVersion,
    Price,
    PriceUnit,
    Row,
)
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.prompts import drop_orphans, pieces, store_prompts


def append(
    connection: Connection, policy_id: str, outcomes: Sequence[Outcome], now: float
) -> Appended:
    """Append a chunk of outcomes to a policy, each ``outcome_id`` once.

    Args:
        connection: Inside a transaction that holds the write lock.
        policy_id: Created if unknown.
        outcomes: The chunk, in order.
        now: Seconds since the epoch.
    """
    key, version = _policy_for_append(connection, policy_id, now)
    known = _known_ids(connection, key, [o.outcome_id for o in outcomes]) if version else set()
    fresh: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.outcome_id not in known:
            fresh.setdefault(outcome.outcome_id, outcome)
    rows = list(fresh.values())
    prompt_keys, new_prompts = store_prompts(connection, [o.prompt for o in rows])
    if rows:
        connection.execute(
            insert(schema.outcome),
            [
                {
                    "policy_key": key,
                    "seq": version + 1 + position,
                    "outcome_id": o.outcome_id,
                    "prompt_key": prompt_keys[o.prompt],
                    "reward": o.reward,
                    "rollouts": o.rollouts,
                    "cost": o.cost,
                    "step": o.step,
                    "observed_at": o.observed_at,
                    "tokens": o.tokens,
                    "decision_id": o.decision_id,
                }
                for position, o in enumerate(rows)
            ],
        )
        _raise_version(connection, key, rows, now)
    return Appended(
        policy=PolicyVersion(DEFAULT_TENANT, policy_id, key, version + len(rows)),
        accepted=len(rows),
        duplicates=len(outcomes) - len(rows),
        new_prompts=tuple(new_prompts),
    )


def get_policy(connection: Connection, policy_id: str) -> PolicyRecord | None:
    """Look a policy up by name."""
    found = connection.execute(_POLICY.where(schema.policy.c.policy_id == policy_id)).first()
    return None if found is None else _record(found)


def get_policies(connection: Connection, policy_ids: Sequence[str]) -> list[PolicyRecord]:
    """Those of some policies that are known, in any order."""
    statements = (
        _POLICY.where(schema.policy.c.policy_id.in_(piece)) for piece in pieces(policy_ids)
    )
    return [_record(row) for one in statements for row in connection.execute(one)]


def update_policy(
    connection: Connection, policy_id: str, fields: Mapping[str, Any], now: float
) -> PolicyRecord:
    """Set what is known of a policy beside its outcomes; one that is unknown is created.

    Args:
        connection: Inside a transaction that holds the write lock.
        policy_id: The policy.
        fields: What to set: ``price`` to a ``Price`` or None, ``labels`` to a mapping.
        now: Seconds since the epoch.
    """
    key, _ = _policy_for_append(connection, policy_id, now)
    values: dict[str, Any] = {"updated_at": now}
    if "price" in fields:
        price: Price | None = fields["price"]
        values["price"] = price.per_token if price else None
        values["price_unit"] = price.unit.value if price else None
    if "labels" in fields:
        values["labels"] = json.dumps(dict(fields["labels"]), sort_keys=True)
    connection.execute(update(schema.policy).where(schema.policy.c.key == key).values(values))
    return _record(connection.execute(_POLICY.where(schema.policy.c.key == key)).one())


def list_policies(connection: Connection, after: str, limit: int) -> list[PolicyRecord]:
    """Up to ``limit`` policies whose name sorts after ``after``, in order of name."""
    statement = (
        _POLICY.where(schema.policy.c.policy_id > after)
        .order_by(schema.policy.c.policy_id)
        .limit(limit)
    )
    return [_record(row) for row in connection.execute(statement)]


def delete_policy(connection: Connection, policy_id: str) -> int | None:
    """Delete a policy and the prompts only it had; the number of outcomes deleted, or None."""
    record = get_policy(connection, policy_id)
    if record is None:
        return None
    prompts = select(schema.outcome.c.prompt_key).where(schema.outcome.c.policy_key == record.key)
    mine = list(set(connection.scalars(prompts)))
    connection.execute(delete(schema.outcome).where(schema.outcome.c.policy_key == record.key))
    member = schema.fleet_member
    connection.execute(delete(member).where(member.c.policy_key == record.key))
    connection.execute(delete(schema.policy).where(schema.policy.c.key == record.key))
    drop_orphans(connection, mine)
    return record.version


def newest_rows(
    connection: Connection,
    policy_key: int,
    model_key: int,
    *,
    after: int,
    limit: int,
    depth: int,
    as_of_step: int | None,
) -> tuple[int, list[Row]] | None:
    """The version of a policy and its newest rows, oldest first.

    Args:
        connection: Inside a transaction, so that version and rows agree.
        policy_key: The policy.
        model_key: Whose embeddings to bring along.
        after: Only rows with a larger ``seq``.
        limit: At most this many rows: the newest.
        depth: At most this many of them, the newest, with their embeddings, which are nearly
            all there is to read.
        as_of_step: Only rows whose step is set and at most this.

    Returns:
        None when the policy has been deleted.
    """
    version = connection.scalar(
        select(schema.policy.c.version).where(schema.policy.c.key == policy_key)
    )
    if version is None:
        return None
    outcome, embedding = schema.outcome, schema.embedding
    columns = [outcome.c[name] for name in Row._fields[:-1]]
    newest = (
        select(*columns)
        .where(outcome.c.policy_key == policy_key, outcome.c.seq > after)
        .order_by(outcome.c.seq.desc())
    )
    if as_of_step is not None:
        newest = newest.where(outcome.c.step <= as_of_step)
    embedded = newest.add_columns(embedding.c.vector).outerjoin_from(
        outcome,
        embedding,
        (embedding.c.prompt_key == outcome.c.prompt_key) & (embedding.c.model_key == model_key),
    )
    depth = min(depth, limit)
    rows = [Row._make(row) for row in connection.execute(embedded.limit(depth))]
    if len(rows) == depth < limit:
        rest = newest.add_columns(null()).limit(limit - depth).offset(depth)
        rows += [Row._make(row) for row in connection.execute(rest)]
    rows.reverse()
    return version, rows


def read_outcomes(
    connection: Connection, policy: PolicyVersion, *, after: int, limit: int
) -> list[LoggedOutcome] | None:
    """Read one page of the outcomes of a policy up to its version, in order of ``seq``.

    Args:
        connection: Inside a transaction.
        policy: The policy and the version at which the outcomes end.
        after: Only outcomes with a larger ``seq``.
        limit: Most outcomes to read.

    Returns:
        None if the policy was deleted.
    """
    outcome, prompt = schema.outcome, schema.prompt
    statement = (
        select(
            outcome.c.seq,
            outcome.c.outcome_id,
            prompt.c.text,
            outcome.c.reward,
            outcome.c.rollouts,
            outcome.c.observed_at,
            outcome.c.cost,
            outcome.c.step,
            outcome.c.tokens,
            outcome.c.decision_id,
        )
        .join(prompt, prompt.c.key == outcome.c.prompt_key)
        .where(
            outcome.c.policy_key == policy.key,
            outcome.c.seq > after,
            outcome.c.seq <= policy.version,
        )
        .order_by(outcome.c.seq)
        .limit(limit)
    )
    logged = [
        LoggedOutcome(seq, Outcome(outcome_id, text.decode(), *fields))
        for seq, outcome_id, text, *fields in connection.execute(statement)
    ]
    exists = select(schema.policy.c.key).where(schema.policy.c.key == policy.key)
    if not logged and connection.scalar(exists) is None:
        return None
    return logged


_POLICY = select(schema.policy)


def _record(row: Any) -> PolicyRecord:  # noqa: ANN401
    return PolicyRecord(
        key=row.key,
        policy_id=row.policy_id,
        version=row.version,
        outcomes=row.version,
        mean_reward=row.reward_sum / row.version if row.version else 0.0,
        newest_step=row.newest_step,
        created_at=row.created_at,
        updated_at=row.updated_at,
        mean_cost=row.cost_sum / row.cost_outcomes if row.cost_outcomes else None,
        mean_tokens=row.token_sum / row.token_outcomes if row.token_outcomes else None,
        price=None if row.price is None else Price(row.price, PriceUnit(row.price_unit)),
        labels=json.loads(row.labels),
    )


def _policy_for_append(connection: Connection, policy_id: str, now: float) -> tuple[int, int]:
    """Key and version of a policy, locked until the transaction ends."""
    wanted = (
        select(schema.policy.c.key, schema.policy.c.version)
        .where(schema.policy.c.policy_id == policy_id)
        .with_for_update()
    )
    found = connection.execute(wanted).first()
    if found is None:
        connection.execute(
            insert(schema.policy).values(
                policy_id=policy_id, version=0, reward_sum=0.0, created_at=now, updated_at=now
            )
        )
        found = connection.execute(wanted).one()
    return found[0], found[1]


def _raise_version(connection: Connection, key: int, rows: Sequence[Outcome], now: float) -> None:
    """Count accepted rows into their policy."""
    columns = schema.policy.c
    steps = [o.step for o in rows if o.step is not None]
    costs = [o.cost for o in rows if o.cost is not None]
    tokens = [o.tokens for o in rows if o.tokens is not None]
    values: dict[str, Any] = {
        "version": columns.version + len(rows),
        "reward_sum": columns.reward_sum + sum(o.reward for o in rows),
        "cost_sum": columns.cost_sum + sum(costs),
        "cost_outcomes": columns.cost_outcomes + len(costs),
        "token_sum": columns.token_sum + sum(tokens),
        "token_outcomes": columns.token_outcomes + len(tokens),
        "updated_at": now,
    }
    if steps:
        newest = max(steps)
        older = func.coalesce(columns.newest_step, newest)
        values["newest_step"] = func.greatest(older, newest)
        if connection.dialect.name == "sqlite":
            values["newest_step"] = func.max(older, newest)
    connection.execute(update(schema.policy).where(columns.key == key).values(values))


def _known_ids(connection: Connection, policy_key: int, ids: Sequence[str]) -> set[str]:
    """Which outcome ids a policy has already."""
    known: set[str] = set()
    for piece in pieces(ids):
        known.update(
            connection.scalars(
                select(schema.outcome.c.outcome_id).where(
                    schema.outcome.c.policy_key == policy_key,
                    schema.outcome.c.outcome_id.in_(piece),
                )
            )
        )
    return known
