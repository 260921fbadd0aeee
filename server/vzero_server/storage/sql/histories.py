"""What a policy earned on prompts before, as statements on a connection."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from sqlalchemy import Connection, func, select

from vzero_server.storage.records import PastOutcome
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.prompts import keys_of, pieces

MOST_ROWS = 64
"""Newest outcomes of a prompt that are read."""


def read_histories_by_key(
    connection: Connection, policy_key: int, prompt_keys: Sequence[int], as_of_step: int | None
) -> dict[int, list[PastOutcome]]:
    """The newest outcomes of a policy on prompts by key; see ``read_histories``."""
    found: dict[int, list[PastOutcome]] = {}
    for _, key, *fields in _newest(connection, [policy_key], prompt_keys, as_of_step):
        found.setdefault(key, []).append(PastOutcome._make(fields))
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
    # Their keys first: for a join too SQLite would go through all outcomes of each policy.
    digest_of = {key: digest for digest, key in keys_of(connection, digests).items()}
    found: dict[tuple[int, bytes], list[PastOutcome]] = {}
    for policy, key, *fields in _newest(connection, policy_keys, list(digest_of), as_of_step):
        found.setdefault((policy, digest_of[key]), []).append(PastOutcome._make(fields))
    return found


def _newest(
    connection: Connection,
    policy_keys: Sequence[int],
    prompt_keys: Sequence[int],
    as_of_step: int | None,
) -> Iterator[Sequence[Any]]:
    """Key of the policy and of the prompt, and fields, of the newest outcomes of each pair."""
    outcome, whole = schema.outcome.c, schema.outcome.alias()
    # The sum is for SQLite, which would go through all outcomes of a policy to spare itself
    # sorting those of one prompt.
    newness = func.row_number().over(
        partition_by=(outcome.policy_key, outcome.prompt_key), order_by=(outcome.seq + 0).desc()
    )
    # What this needs stands in the index of prompts; the other columns are read of few rows.
    rows = select(outcome.policy_key, outcome.prompt_key, outcome.seq, newness.label("newness"))
    if as_of_step is not None:
        rows = rows.where(outcome.step <= as_of_step)
    for some, piece in product(pieces(policy_keys), pieces(prompt_keys)):
        named = outcome.prompt_key.in_(piece), outcome.policy_key.in_(some)
        numbered = rows.where(*named).subquery()
        same = (whole.c.policy_key == numbered.c.policy_key) & (whole.c.seq == numbered.c.seq)
        yield from connection.execute(
            select(numbered.c.policy_key, numbered.c.prompt_key)
            .add_columns(*(whole.c[name] for name in PastOutcome._fields))
            .join(whole, same)
            .where(numbered.c.newness <= MOST_ROWS)
            .order_by(numbered.c.seq)
        )
