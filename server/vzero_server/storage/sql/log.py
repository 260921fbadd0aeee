"""Statements on the durable log of outcomes: append and read."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, case, insert, null, select, update

from vzero_server.storage.records import Appended, LoggedOutcome, Outcome, PolicyVersion, Row
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.policies import get_or_create
from vzero_server.storage.sql.prompts import batches, store_prompts


def append(
    connection: Connection, tenant: str, policy_id: str, outcomes: Sequence[Outcome], now: float
) -> Appended:
    """Append outcomes to a policy, each ``outcome_id`` once.

    Sequence numbers go on from the policy's version, which rises by the number of outcomes
    accepted.

    Args:
        connection: Inside a write transaction.
        tenant: The owner of the policy.
        policy_id: Created if unknown.
        outcomes: The outcomes, in order.
        now: Seconds since the epoch.
    """
    policy = get_or_create(connection, tenant, policy_id, now)
    ids = [o.outcome_id for o in outcomes]
    known_ids = _known_ids(connection, policy.key, ids) if policy.outcomes else set()
    accepted: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.outcome_id not in known_ids:
            accepted.setdefault(outcome.outcome_id, outcome)
    rows = list(accepted.values())
    prompt_keys, new_prompts = store_prompts(connection, [o.prompt for o in rows])
    if rows:
        connection.execute(
            insert(schema.outcome),
            [
                {
                    "policy_key": policy.key,
                    "seq": seq,
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
                for seq, o in enumerate(rows, policy.version + 1)
            ],
        )
        _count(connection, policy.key, rows, now)
    return Appended(
        policy=PolicyVersion(tenant, policy_id, policy.key, policy.version + len(rows)),
        accepted=len(rows),
        duplicates=len(outcomes) - len(rows),
        new_prompts=tuple(new_prompts),
    )


def newest_rows(
    connection: Connection,
    policy_key: int,
    model_key: int,
    *,
    after: int,
    limit: int,
    embedded_rows: int,
    as_of_step: int | None,
) -> tuple[int, list[Row]] | None:
    """Read the version of a policy and its newest rows, oldest first.

    Args:
        connection: Inside a transaction, so that version and rows agree.
        policy_key: The policy.
        model_key: The model whose feature vectors are read.
        after: Only rows with a larger ``seq``.
        limit: Most rows to read, the newest.
        embedded_rows: Most rows, the newest, to read with their feature vectors, which are most
            of the bytes to read.
        as_of_step: Only rows that have a step of at most this.

    Returns:
        None if the policy was deleted.
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
    embedded_rows = min(embedded_rows, limit)
    rows = [Row._make(row) for row in connection.execute(embedded.limit(embedded_rows))]
    if len(rows) == embedded_rows < limit:
        rest = newest.add_columns(null()).limit(limit - embedded_rows).offset(embedded_rows)
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
    page = [
        LoggedOutcome(seq, Outcome(outcome_id, text.decode(), *fields))
        for seq, outcome_id, text, *fields in connection.execute(statement)
    ]
    exists = select(schema.policy.c.key).where(schema.policy.c.key == policy.key)
    if not page and connection.scalar(exists) is None:
        return None
    return page


def _known_ids(connection: Connection, policy_key: int, ids: Sequence[str]) -> set[str]:
    """Return those of some outcome ids that a policy already has."""
    columns = schema.outcome.c
    known_ids: set[str] = set()
    for batch in batches(ids):
        statement = select(columns.outcome_id).where(
            columns.policy_key == policy_key, columns.outcome_id.in_(batch)
        )
        known_ids.update(connection.scalars(statement))
    return known_ids


def _count(connection: Connection, policy_key: int, rows: Sequence[Outcome], now: float) -> None:
    """Add accepted outcomes to the version and the totals of their policy."""
    columns = schema.policy.c
    steps = [o.step for o in rows if o.step is not None]
    costs = [o.cost for o in rows if o.cost is not None]
    tokens = [o.tokens for o in rows if o.tokens is not None]
    values: dict[str, Any] = {
        "version": columns.version + len(rows),
        "outcomes": columns.outcomes + len(rows),
        "reward_sum": columns.reward_sum + sum(o.reward for o in rows),
        "cost_sum": columns.cost_sum + sum(costs),
        "cost_outcomes": columns.cost_outcomes + len(costs),
        "token_sum": columns.token_sum + sum(tokens),
        "token_outcomes": columns.token_outcomes + len(tokens),
        "updated_at": now,
    }
    if steps:
        newest = max(steps)
        values["newest_step"] = case(
            (columns.newest_step > newest, columns.newest_step), else_=newest
        )
    connection.execute(update(schema.policy).where(columns.key == policy_key).values(values))
