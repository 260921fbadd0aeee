"""Outcomes as messages."""

import time

from vzero.v1 import value_pb2
from vzero_server.api.errors import InvalidRequestError
from vzero_server.api.messages.times import timestamp_message
from vzero_server.storage.records import Appended, Outcome

# Seconds by which a caller's clock may be ahead. A day covers a wrong time zone.
_MAX_AHEAD = 86_400.0


def outcomes_from(request: value_pb2.UpdateContextRequest) -> list[Outcome]:
    """Return the outcomes of a chunk. An outcome without a time was observed now.

    Raises:
        InvalidRequestError: A time is out of range.
    """
    now = time.time()
    outcomes = []
    for position, message in enumerate(request.outcomes):
        observed_at = now
        if message.HasField("observed_at"):
            observed_at = message.observed_at.seconds + message.observed_at.nanos * 1e-9
            if not 0.0 <= observed_at <= now + _MAX_AHEAD:
                field = f"outcomes[{position}].observed_at"
                raise InvalidRequestError.of(field, "must lie between 1970 and now")
        outcomes.append(
            Outcome(
                outcome_id=message.outcome_id,
                prompt=message.prompt,
                reward=message.reward,
                rollouts=message.rollouts,
                observed_at=observed_at,
                cost=message.cost if message.HasField("cost") else None,
                step=message.step if message.HasField("step") else None,
                tokens=message.tokens if message.HasField("tokens") else None,
                decision_id=message.decision_id if message.HasField("decision_id") else None,
            )
        )
    return outcomes


def chunk_message(policy_id: str, outcomes: list[Outcome]) -> value_pb2.UpdateContextRequest:
    """Return the chunk that reports some outcomes.

    Raises:
        ValueError: A value does not fit its field.
    """
    return value_pb2.UpdateContextRequest(
        policy_id=policy_id,
        outcomes=[
            value_pb2.Outcome(
                outcome_id=outcome.outcome_id,
                prompt=outcome.prompt,
                reward=outcome.reward,
                rollouts=outcome.rollouts,
                cost=outcome.cost,
                step=outcome.step,
                observed_at=timestamp_message(outcome.observed_at),
                tokens=outcome.tokens,
                decision_id=outcome.decision_id,
            )
            for outcome in outcomes
        ],
    )


def acknowledgement(policy_id: str, appended: Appended) -> value_pb2.UpdateContextResponse:
    """Return the acknowledgement of a chunk."""
    return value_pb2.UpdateContextResponse(
        policy_id=policy_id,
        version=appended.policy.version,
        accepted=appended.accepted,
        duplicates=appended.duplicates,
    )
