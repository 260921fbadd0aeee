"""What other policies earned on the same prompts, as statements on a connection."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from sqlalchemy import Connection, Row, func, select

from vzero_server.storage.records import Peer, PeerRewards
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.prompts import pieces

# Prompts of a policy that decide who its peers are.
_PROBED = 64


def find_peers(
    connection: Connection, policy_key: int, prompt_keys: Sequence[int], limit: int
) -> list[Peer]:
    """The other policies that tried most of some prompts, the newest of equals first.

    Args:
        connection: Inside a transaction.
        policy_key: The policy whose peers are wanted.
        prompt_keys: Prompts; of many, a few that are spread evenly are looked at.
        limit: Most peers.
    """
    distinct = sorted(set(prompt_keys))
    probed = distinct[:: max(1, len(distinct) // _PROBED)]
    outcome, policy = schema.outcome.c, schema.policy.c
    shared = func.count(outcome.prompt_key.distinct())
    met = (
        select(outcome.policy_key, shared.label("shared"))
        .where(outcome.prompt_key.in_(probed), outcome.policy_key != policy_key)
        .group_by(outcome.policy_key)
        .order_by(shared.desc(), outcome.policy_key.desc())
        .limit(limit)
        .subquery()
    )
    found = select(policy.key, policy.reward_sum, policy.version).join(
        met, met.c.policy_key == policy.key
    )
    ordered = found.order_by(met.c.shared.desc(), policy.key.desc())
    return [Peer(*row) for row in connection.execute(ordered)]


def peer_rewards(
    connection: Connection, peers: Sequence[int], prompt_keys: Sequence[int]
) -> PeerRewards:
    """Mean rewards of policies on prompts, where known."""
    outcome = schema.outcome.c
    found: list[Row[int, int, float]] = []
    for piece in pieces(sorted(set(prompt_keys))):
        statement = (
            select(outcome.prompt_key, outcome.policy_key, func.avg(outcome.reward))
            .where(outcome.prompt_key.in_(piece), outcome.policy_key.in_(peers))
            .group_by(outcome.prompt_key, outcome.policy_key)
        )
        found += connection.execute(statement).all()
    columns = zip(*found, strict=True) if found else ((), (), ())
    prompts, policies, rewards = columns
    return PeerRewards(
        np.array(prompts, np.int64), np.array(policies, np.int64), np.array(rewards, np.float64)
    )


def peer_rewards_by_digest(
    connection: Connection, peers: Sequence[int], digests: Sequence[bytes]
) -> list[tuple[bytes, int, float]]:
    """The same for prompts by digest, some of which may not be known at all."""
    outcome, prompt = schema.outcome.c, schema.prompt.c
    found: list[tuple[bytes, int, float]] = []
    for some, piece in product(pieces(peers), pieces(digests)):
        statement = (
            select(prompt.digest, outcome.policy_key, func.avg(outcome.reward))
            .join(schema.outcome, outcome.prompt_key == prompt.key)
            .where(prompt.digest.in_(piece), outcome.policy_key.in_(some))
            .group_by(prompt.digest, outcome.policy_key)
        )
        found += [(row[0], row[1], row[2]) for row in connection.execute(statement)]
    return found
