"""One prompt's reward under a policy."""

from dataclasses import dataclass
from hashlib import blake2b


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
    """Key of a prompt's text: 16 bytes that no two texts share in practice."""
    return blake2b(prompt.encode(), digest_size=16).digest()
