"""Statements on peers: the policies with outcomes on the same prompts."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import sqlalchemy
from sqlalchemy import Connection, func, select

from vzero_server.storage.records import Peer, PeerRewards
from vzero_server.storage.sql import schema
from vzero_server.storage.sql.prompts import batches

# About how many prompts of a policy are compared with those of others.
_SAMPLED_PROMPTS = 64


def find_peers(
    connection: Connection, policy_key: int, prompt_keys: Sequence[int], limit: int
) -> list[Peer]:
    """Find the policies of the same tenant that share most prompts with a policy.

    Args:
        connection: Inside a transaction.
        policy_key: The policy, which is not its own peer.
        prompt_keys: Its prompts. Of many prompts an evenly spaced sample is used.
        limit: Most peers to return.

    Returns:
        Peers, those with most shared prompts first, of equals the newest first.
    """
    distinct = sorted(set(prompt_keys))
    sample = distinct[:: max(1, len(distinct) // _SAMPLED_PROMPTS)]
    outcome, policy, candidate = schema.outcome.c, schema.policy.c, schema.policy.alias()
    shared = func.count(outcome.prompt_key.distinct())
    tenant = select(policy.tenant).where(policy.key == policy_key).scalar_subquery()
    candidate_tenant = (
        select(candidate.c.tenant).where(candidate.c.key == outcome.policy_key).scalar_subquery()
    )
    counted = (
        select(outcome.policy_key, shared.label("shared"))
        .where(outcome.prompt_key.in_(sample), outcome.policy_key != policy_key)
        .group_by(outcome.policy_key)
        .having(candidate_tenant == tenant)
        .order_by(shared.desc(), outcome.policy_key.desc())
        .limit(limit)
        .subquery()
    )
    statement = (
        select(policy.key, policy.reward_sum, policy.outcomes)
        .join(counted, counted.c.policy_key == policy.key)
        .order_by(counted.c.shared.desc(), policy.key.desc())
    )
    return [Peer(*row) for row in connection.execute(statement)]


def peer_rewards(
    connection: Connection, peer_keys: Sequence[int], prompt_keys: Sequence[int]
) -> PeerRewards:
    """Read the mean rewards of policies on prompts; pairs without outcomes are left out."""
    outcome = schema.outcome.c
    rows: list[sqlalchemy.Row[int, int, float]] = []
    for batch in batches(sorted(set(prompt_keys))):
        statement = (
            select(outcome.prompt_key, outcome.policy_key, func.avg(outcome.reward))
            .where(outcome.prompt_key.in_(batch), outcome.policy_key.in_(peer_keys))
            .group_by(outcome.prompt_key, outcome.policy_key)
        )
        rows += connection.execute(statement).all()
    prompts, policies, rewards = zip(*rows, strict=True) if rows else ((), (), ())
    return PeerRewards(
        np.array(prompts, np.int64), np.array(policies, np.int64), np.array(rewards, np.float64)
    )


def peer_rewards_by_digest(
    connection: Connection, peer_keys: Sequence[int], digests: Sequence[bytes]
) -> list[tuple[bytes, int, float]]:
    """Read the mean rewards of policies on prompts as (digest, policy key, reward).

    Digests of unknown prompts are allowed.
    """
    outcome, prompt = schema.outcome.c, schema.prompt.c
    rewards: list[tuple[bytes, int, float]] = []
    for peer_batch, digest_batch in product(batches(peer_keys), batches(digests)):
        statement = (
            select(prompt.digest, outcome.policy_key, func.avg(outcome.reward))
            .join(schema.outcome, outcome.prompt_key == prompt.key)
            .where(prompt.digest.in_(digest_batch), outcome.policy_key.in_(peer_batch))
            .group_by(prompt.digest, outcome.policy_key)
        )
        rewards += [(row[0], row[1], row[2]) for row in connection.execute(statement)]
    return rewards
