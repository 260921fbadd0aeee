"""What a policy earned on prompts before, as statements on a connection."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from vzero_server.contexts import schema
from vzero_server.contexts.prompts import pieces

MOST_ROWS = 64
"""Newest outcomes of a prompt that are read."""


@dataclass(frozen=True, slots=True)
class PastOutcome:
    """One outcome of a prompt: its number in the policy's log, and what came of it."""

    seq: int
    reward: float
    rollouts: int
    step: int | None
    observed_at: float


def read_histories(
    connection: Connection, policy_key: int, digests: Sequence[bytes], as_of_step: int | None
) -> dict[bytes, list[PastOutcome]]:
    """The newest outcomes of a policy on prompts by digest, oldest first.

    Args:
        connection: Inside a transaction.
        policy_key: The policy.
        digests: Of the prompts, which need not be known.
        as_of_step: Only outcomes whose step is set and at most this.
    """
    outcome, prompt = schema.outcome.c, schema.prompt
    found: dict[bytes, list[PastOutcome]] = {}
    for piece in pieces(digests):
        newness = func.row_number().over(
            partition_by=outcome.prompt_key, order_by=outcome.seq.desc()
        )
        rows = (
            select(
                prompt.c.digest,
                outcome.seq,
                outcome.reward,
                outcome.rollouts,
                outcome.step,
                outcome.observed_at,
                newness.label("newness"),
            )
            .join(schema.outcome, outcome.prompt_key == prompt.c.key)
            .where(prompt.c.digest.in_(piece), outcome.policy_key == policy_key)
        )
        if as_of_step is not None:
            rows = rows.where(outcome.step <= as_of_step)
        newest = rows.subquery()
        statement = select(newest).where(newest.c.newness <= MOST_ROWS).order_by(newest.c.seq)
        for digest, *fields, _ in connection.execute(statement):
            found.setdefault(digest, []).append(PastOutcome(*fields))
    return found
