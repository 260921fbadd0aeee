"""Statements on histories: the outcomes of a policy on given prompts."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from sqlalchemy import Connection, func, select

from vzero_server.storage.base import MAX_HISTORY
from vzero_server.storage.records import PastOutcome
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.prompts import batches, keys_by_digest


def read_histories_by_key(
    connection: Connection, policy_key: int, prompt_keys: Sequence[int], as_of_step: int | None
) -> dict[int, list[PastOutcome]]:
    """Read the newest outcomes of one policy by prompt key, as ``read_histories``."""
    histories: dict[int, list[PastOutcome]] = {}
    for _, prompt_key, *fields in _newest(connection, [policy_key], prompt_keys, as_of_step):
        histories.setdefault(prompt_key, []).append(PastOutcome._make(fields))
    return histories


def read_histories(
    connection: Connection,
    policy_keys: Sequence[int],
    digests: Sequence[bytes],
    as_of_step: int | None,
) -> dict[tuple[int, bytes], list[PastOutcome]]:
    """Read the newest outcomes of policies on prompts by policy key and digest, oldest first.

    At most ``MAX_HISTORY`` outcomes of each pair are read.

    Args:
        connection: Inside a transaction.
        policy_keys: The policies.
        digests: Digests of the prompts. Unknown prompts are allowed.
        as_of_step: Only outcomes that have a step of at most this.
    """
    # The keys first: in a join with prompts, SQLite scans all outcomes of each policy.
    digests_by_key = {key: digest for digest, key in keys_by_digest(connection, digests).items()}
    histories: dict[tuple[int, bytes], list[PastOutcome]] = {}
    for policy_key, prompt_key, *fields in _newest(
        connection, policy_keys, list(digests_by_key), as_of_step
    ):
        pair = policy_key, digests_by_key[prompt_key]
        histories.setdefault(pair, []).append(PastOutcome._make(fields))
    return histories


def _newest(
    connection: Connection,
    policy_keys: Sequence[int],
    prompt_keys: Sequence[int],
    as_of_step: int | None,
) -> Iterator[Sequence[Any]]:
    """Yield policy key, prompt key and fields of the newest outcomes of each pair."""
    outcome, outcome_row = schema.outcome.c, schema.outcome.alias()
    # `seq + 0` keeps SQLite from scanning all outcomes of a policy to avoid a sort.
    rank = func.row_number().over(
        partition_by=(outcome.policy_key, outcome.prompt_key), order_by=(outcome.seq + 0).desc()
    )
    # These columns are part of the prompt index; the others are read for few rows only.
    ranked = select(outcome.policy_key, outcome.prompt_key, outcome.seq, rank.label("rank"))
    if as_of_step is not None:
        ranked = ranked.where(outcome.step <= as_of_step)
    for policy_batch, prompt_batch in product(batches(policy_keys), batches(prompt_keys)):
        newest = ranked.where(
            outcome.prompt_key.in_(prompt_batch), outcome.policy_key.in_(policy_batch)
        ).subquery()
        yield from connection.execute(
            select(newest.c.policy_key, newest.c.prompt_key)
            .add_columns(*(outcome_row.c[name] for name in PastOutcome._fields))
            .join(
                outcome_row,
                (outcome_row.c.policy_key == newest.c.policy_key)
                & (outcome_row.c.seq == newest.c.seq),
            )
            .where(newest.c.rank <= MAX_HISTORY)
            .order_by(newest.c.seq)
        )
