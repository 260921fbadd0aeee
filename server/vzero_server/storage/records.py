"""Records of the store: outcomes, policies, fleets, peers and histories."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from vzero_server.types import FloatArray, IntArray

DEFAULT_TENANT = "default"
"""The tenant of policies and fleets whose callers are not identified."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One prompt's mean reward over some rollouts of a policy.

    Attributes:
        outcome_id: Identifies the outcome within its policy.
        prompt: The prompt's text.
        reward: Mean reward over the rollouts, in [0, 1].
        rollouts: Attempts the reward is the mean of, at least 1.
        observed_at: When the reward was observed, in seconds since the epoch.
        cost: Mean cost of one rollout in the caller's unit, at least 0.
        step: Checkpoint of the policy's lineage that made the rollouts.
        tokens: Mean number of tokens of one rollout, at least 0.
        decision_id: The allocation or ranking that led to the rollouts.
    """

    outcome_id: str
    prompt: str
    reward: float
    rollouts: int
    observed_at: float
    cost: float | None = None
    step: int | None = None
    tokens: float | None = None
    decision_id: str | None = None


def prompt_digest(prompt: str) -> bytes:
    """The key of a prompt's text: 16 bytes that no two texts share in practice."""
    return blake2b(prompt.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A policy at one version of its log.

    Attributes:
        tenant: The owner of the policy.
        policy_id: The policy's name, unique within its tenant.
        key: The policy's key in the store. A deleted policy's key is never reused.
        version: Number of changes to the policy's log.
    """

    tenant: str
    policy_id: str
    key: int
    version: int


class PriceUnit(StrEnum):
    """The unit of a price."""

    PARAMS = "params"
    MONEY = "money"


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one token.

    Attributes:
        per_token: At least 0. In ``PARAMS``, the policy's size relative to other policies: 7 for
            7 billion parameters (paper, F.2).
        unit: The unit of the price.
    """

    per_token: float
    unit: PriceUnit


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """The description of one policy.

    Attributes:
        key: The policy's key in the store.
        policy_id: The policy's name.
        version: Number of changes to the policy's log.
        outcomes: Number of outcomes in the log.
        mean_reward: Mean reward of all outcomes, 0 without outcomes.
        newest_step: Highest step of all outcomes, None if no outcome has a step.
        created_at: Seconds since the epoch.
        updated_at: Seconds since the epoch.
        mean_cost: Mean over the outcomes that have a cost, None if no outcome has one.
        mean_tokens: Mean over the outcomes that have a token count, None if no outcome has one.
        price: The price of a token, None if it is not set.
        labels: Metadata set by callers.
        tenant: The owner of the policy.
    """

    key: int
    policy_id: str
    version: int
    outcomes: int
    mean_reward: float
    newest_step: int | None
    created_at: float
    updated_at: float
    mean_cost: float | None
    mean_tokens: float | None
    price: Price | None
    labels: Mapping[str, str]
    tenant: str = DEFAULT_TENANT

    @property
    def at_version(self) -> PolicyVersion:
        """The policy and its version."""
        return PolicyVersion(self.tenant, self.policy_id, self.key, self.version)


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of an append.

    Attributes:
        policy: The policy after the append.
        accepted: Number of outcomes stored.
        duplicates: Number of outcomes skipped because their ids were already known.
        new_prompts: Texts of the prompts stored for the first time.
    """

    policy: PolicyVersion
    accepted: int
    duplicates: int
    new_prompts: tuple[str, ...]


class Row(NamedTuple):
    """One outcome of a context window.

    Attributes:
        seq: The outcome's sequence number in its policy's log.
        prompt_key: Key of the prompt.
        reward: In [0, 1].
        rollouts: Attempts the reward is the mean of.
        step: The outcome's step, None if it has none.
        observed_at: Seconds since the epoch.
        vector: The stored feature vector of the prompt, None if not read or not stored.
    """

    seq: int
    prompt_key: int
    reward: float
    rollouts: int
    step: int | None
    observed_at: float
    vector: bytes | None


class LoggedOutcome(NamedTuple):
    """An outcome and its sequence number in its policy's log."""

    seq: int
    outcome: Outcome


class PastOutcome(NamedTuple):
    """One outcome in the history of a prompt."""

    seq: int
    reward: float
    rollouts: int
    step: int | None
    observed_at: float


@dataclass(frozen=True, slots=True)
class Peer:
    """A policy that has outcomes on the prompts of another.

    Attributes:
        key: The policy's key in the store.
        reward_sum: Sum of the rewards of all its outcomes.
        outcomes: Number of its outcomes.
    """

    key: int
    reward_sum: float
    outcomes: int


class PeerRewards(NamedTuple):
    """Mean rewards of policies on prompts.

    Attributes:
        prompts: Keys of the prompts, ``[n]``.
        policies: Keys of the policies, ``[n]``.
        rewards: Mean reward of each pair, ``[n]``.
    """

    prompts: IntArray
    policies: IntArray
    rewards: FloatArray


@dataclass(frozen=True, slots=True)
class Fleet:
    """A named list of policies, in the order given by the caller."""

    name: str
    policy_ids: tuple[str, ...]
