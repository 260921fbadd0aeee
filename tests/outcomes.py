"""Outcomes, and the chunks that report them."""

from collections.abc import Iterable

from vzero.v1 import value_pb2
from vzero_server.storage.records import Outcome


def outcome(outcome_id: str, prompt: str = "What is 1 plus 1?", **fields: object) -> Outcome:
    """An outcome, with defaults for all other fields."""
    values: dict[str, object] = {"reward": 0.5, "rollouts": 10, "observed_at": 1.7e9} | fields
    return Outcome(outcome_id=outcome_id, prompt=prompt, **values)  # type: ignore[arg-type]


def sums(count: int, start: int = 0) -> list[Outcome]:
    """Outcomes of a policy that adds only even numbers correctly."""
    return [
        outcome(f"sum-{i}", f"What is {i} plus {i % 7}?", reward=float(i % 2 == 0), step=i // 10)
        for i in range(start, start + count)
    ]


def chunk(policy_id: str, outcomes: Iterable[Outcome]) -> value_pb2.UpdateContextRequest:
    """One chunk of a stream of outcomes."""
    return value_pb2.UpdateContextRequest(
        policy_id=policy_id,
        outcomes=[
            value_pb2.Outcome(
                outcome_id=reported.outcome_id,
                prompt=reported.prompt,
                reward=reported.reward,
                rollouts=reported.rollouts,
                cost=reported.cost,
                step=reported.step,
                tokens=reported.tokens,
                decision_id=reported.decision_id,
            )
            for reported in outcomes
        ],
    )
