"""Outcomes for tests."""

from collections.abc import Iterable

from vzero.v1 import value_pb2
from vzero_server.storage.records import Outcome


def outcome(outcome_id: str, prompt: str = "What is 1 plus 1?", **fields: object) -> Outcome:
    """An outcome with defaults for what a test does not care about."""
    settings: dict[str, object] = {"reward": 0.5, "rollouts": 10, "observed_at": 1.7e9} | fields
    return Outcome(outcome_id=outcome_id, prompt=prompt, **settings)  # type: ignore[arg-type]


def sums(count: int, start: int = 0) -> list[Outcome]:
    """Outcomes of a policy that can add even numbers."""
    return [
        outcome(f"sum-{i}", f"What is {i} plus {i % 7}?", reward=float(i % 2 == 0), step=i // 10)
        for i in range(start, start + count)
    ]


def chunk(policy_id: str, outcomes: Iterable[Outcome]) -> value_pb2.UpdateContextRequest:
    """A chunk of a stream."""
    return value_pb2.UpdateContextRequest(
        policy_id=policy_id,
        outcomes=[
            value_pb2.Outcome(
                outcome_id=o.outcome_id,
                prompt=o.prompt,
                reward=o.reward,
                rollouts=o.rollouts,
                cost=o.cost,
                step=o.step,
                tokens=o.tokens,
                decision_id=o.decision_id,
            )
            for o in outcomes
        ],
    )
