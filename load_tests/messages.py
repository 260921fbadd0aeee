"""Requests of trainers and routers, and checks of the replies."""

from collections.abc import Sequence
from random import Random

from vzero.v1 import value_pb2

ROLLOUTS = 8
"""Rollouts of every synthetic outcome."""


class WrongReplyError(Exception):
    """A reply with status OK does not match its request."""


def predict_request(policy_id: str, prompts: Sequence[str]) -> value_pb2.PredictRequest:
    """Request for the values of prompts."""
    return value_pb2.PredictRequest(policy_id=policy_id, prompts=prompts)


def chunks(
    policy_id: str,
    prompts: Sequence[str],
    *,
    run: str,
    step: int,
    rows: int = 64,
) -> list[value_pb2.UpdateContextRequest]:
    """Chunks of synthetic outcomes, one outcome per prompt.

    The rewards are those of a policy that fails more often on longer prompts.

    Args:
        policy_id: The policy.
        prompts: Prompts of the outcomes, in order.
        run: Name of the run; part of the ids of the outcomes.
        step: Training step of the rollouts.
        rows: Outcomes per chunk.
    """
    random = Random(f"{run} {step}")
    outcomes = [
        value_pb2.Outcome(
            outcome_id=f"{run}/{step}/{position}",
            prompt=prompt,
            reward=sum(random.random() < 30 / len(prompt) for _ in range(ROLLOUTS)) / ROLLOUTS,
            rollouts=ROLLOUTS,
            cost=float(len(prompt)),
            step=step,
        )
        for position, prompt in enumerate(prompts)
    ]
    return [
        value_pb2.UpdateContextRequest(policy_id=policy_id, outcomes=outcomes[start : start + rows])
        for start in range(0, len(outcomes), rows)
    ]


def check_values(request: value_pb2.PredictRequest, response: value_pb2.PredictResponse) -> None:
    """Check that a reply has one valid value per prompt.

    Raises:
        WrongReplyError: It has not.
    """
    if len(response.values) != len(request.prompts):
        raise WrongReplyError(f"{len(response.values)} values for {len(request.prompts)} prompts")
    for value in response.values:
        if not 0.0 <= value.lower <= value.mean <= value.upper <= 1.0:
            raise WrongReplyError(
                f"value {value.mean} with interval [{value.lower}, {value.upper}]"
            )


def check_acks(
    requests: Sequence[value_pb2.UpdateContextRequest],
    responses: Sequence[value_pb2.UpdateContextResponse],
) -> None:
    """Check that every chunk is acknowledged, in order and with all its outcomes.

    Raises:
        WrongReplyError: An acknowledgement is missing or wrong.
    """
    if len(responses) != len(requests):
        raise WrongReplyError(f"{len(responses)} acks for {len(requests)} chunks")
    version = 0
    for request, ack in zip(requests, responses, strict=True):
        if ack.policy_id != request.policy_id:
            raise WrongReplyError(f"ack for {ack.policy_id!r} instead of {request.policy_id!r}")
        if ack.accepted + ack.duplicates != len(request.outcomes):
            raise WrongReplyError(f"{ack.accepted} + {ack.duplicates} != {len(request.outcomes)}")
        if ack.version < version + ack.accepted:
            raise WrongReplyError(f"version {ack.version} after {version}")
        version = ack.version
