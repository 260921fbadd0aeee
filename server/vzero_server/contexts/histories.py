"""What a policy earned on prompts before, as statements on a connection."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select

from vzero_server.contexts import schema
from vzero_server.contexts.prompts import pieces

MOST_ROWS = 64
"""Newest outcomes of a prompt that are read."""


class PastOutcome(NamedTuple):
    """One outcome of a prompt: its number in the policy's log, and what came of it."""

    seq: int
    reward: float
    rollouts: int
    step: int | None
    observed_at: float


def read_histories_by_key(
    connection: Connection, policy_key: int, prompt_keys: Sequence[int], as_of_step: int | None
) -> dict[int, list[PastOutcome]]:
    """The newest outcomes of a policy on prompts by key; see ``read_histories``."""
    outcome = schema.outcome.c
    found: dict[int, list[PastOutcome]] = {}
    for piece in pieces(prompt_keys):
        rows = select(outcome.prompt_key, *_COLUMNS).where(
            outcome.prompt_key.in_(piece), outcome.policy_key == policy_key
        )
        for row in connection.execute(_newest(rows, as_of_step)):
            found.setdefault(row[0], []).append(PastOutcome._make(row[1:]))
    return found


def read_histories(
    connection: Connection,
    policy_keys: Sequence[int],
    digests: Sequence[bytes],
    as_of_step: int | None,
) -> dict[tuple[int, bytes], list[PastOutcome]]:
    """The newest outcomes of policies on prompts by policy and digest, oldest first.

    Args:
        connection: Inside a transaction.
        policy_keys: The policies.
        digests: Of the prompts, which need not be known.
        as_of_step: Only outcomes whose step is set and at most this.
    """
    outcome, prompt = schema.outcome.c, schema.prompt
    found: dict[tuple[int, bytes], list[PastOutcome]] = {}
    for some, piece in product(pieces(policy_keys), pieces(digests)):
        rows = (
            select(outcome.policy_key, prompt.c.digest, *_COLUMNS)
            .join(schema.outcome, outcome.prompt_key == prompt.c.key)
            .where(prompt.c.digest.in_(piece), outcome.policy_key.in_(some))
        )
        for row in connection.execute(_newest(rows, as_of_step)):
            found.setdefault((row[0], row[1]), []).append(PastOutcome._make(row[2:]))
    return found


_COLUMNS = [schema.outcome.c[name] for name in ("seq", "reward", "rollouts", "step", "observed_at")]


def _newest(rows: Select[Any], as_of_step: int | None) -> Select[Any]:
    """Of rows of some policies on some prompts, the newest of each pair, oldest first."""
    outcome = schema.outcome.c
    if as_of_step is not None:
        rows = rows.where(outcome.step <= as_of_step)
    pair = (outcome.policy_key, outcome.prompt_key)
    newness = func.row_number().over(partition_by=pair, order_by=outcome.seq.desc())
    numbered = rows.add_columns(newness.label("newness")).subquery()
    columns = [column for column in numbered.c if column.name != "newness"]
    return select(*columns).where(numbered.c.newness <= MOST_ROWS).order_by(numbered.c.seq)
