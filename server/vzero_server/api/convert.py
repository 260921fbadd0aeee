"""Between protobuf messages and the domain."""

import time
from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from vzero.v1 import policy_pb2, value_pb2
from vzero_server.api.errors import InvalidRequestError, Violation
from vzero_server.engine.context.context_cache import EstimatorName
from vzero_server.engine.predictor import Prediction
from vzero_server.errors import UnknownEstimatorError
from vzero_server.storage.records import Outcome, PolicyRecord, Price, PriceUnit
from vzero_server.values.values import History, Values

# The field of the message that holds a price in a unit.
PRICE_FIELDS = {PriceUnit.PARAMS: "params_ratio", PriceUnit.MONEY: "money"}


def estimator_from(name: str) -> EstimatorName:
    """Return the estimator of a name in any case; the empty name means the default.

    Raises:
        UnknownEstimatorError: No estimator has this name.
    """
    try:
        return EstimatorName(name.upper() or EstimatorName.AUTO)
    except ValueError:
        raise UnknownEstimatorError(name, [known.lower() for known in EstimatorName]) from None


def outcomes_from(request: value_pb2.UpdateContextRequest) -> list[Outcome]:
    """The outcomes of a chunk; one without a time was observed now.

    Raises:
        InvalidRequestError: A timestamp is out of range.
    """
    now = time.time()
    outcomes = []
    for position, o in enumerate(request.outcomes):
        observed_at = now
        if o.HasField("observed_at"):
            observed_at = o.observed_at.seconds + o.observed_at.nanos * 1e-9
            if not 0.0 <= observed_at <= now + _MOST_AHEAD:
                field = f"outcomes[{position}].observed_at"
                raise InvalidRequestError([Violation(field, "must lie between 1970 and now")])
        outcomes.append(
            Outcome(
                outcome_id=o.outcome_id,
                prompt=o.prompt,
                reward=o.reward,
                rollouts=o.rollouts,
                observed_at=observed_at,
                cost=o.cost if o.HasField("cost") else None,
                step=o.step if o.HasField("step") else None,
                tokens=o.tokens if o.HasField("tokens") else None,
                decision_id=o.decision_id if o.HasField("decision_id") else None,
            )
        )
    return outcomes


# Seconds a caller's clock may be ahead of ours: a day covers time zones gone wrong.
_MOST_AHEAD = 86_400.0


def chunk_from(policy_id: str, outcomes: list[Outcome]) -> value_pb2.UpdateContextRequest:
    """The chunk that would have reported these outcomes."""
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
                observed_at=_timestamp(o.observed_at),
                tokens=o.tokens,
                decision_id=o.decision_id,
            )
            for o in outcomes
        ],
    )


def predict_response(prediction: Prediction) -> value_pb2.PredictResponse:
    """The reply of ``Predict``."""
    (values,) = value_messages([prediction.values])
    return value_pb2.PredictResponse(values=values, context=context_message(prediction))


def value_messages(parts: Sequence[Values]) -> list[list[value_pb2.Value]]:
    """One message per value, in order, for the values under each of some policies."""
    # Their intervals are computed at once.
    together = Values.joined(parts)
    numbers = zip(
        together.mean.tolist(),
        together.lower.tolist(),
        together.upper.tolist(),
        together.effective_sample_size.tolist(),
        strict=True,
    )
    messages = []
    for part in parts:
        basis = part.basis.lower()
        own = []
        for history in _history_messages(part.history, len(part.mean)):
            mean, lower, upper, effective_sample_size = next(numbers)
            own.append(
                value_pb2.Value(
                    mean=mean,
                    lower=lower,
                    upper=upper,
                    effective_sample_size=effective_sample_size,
                    basis=basis,
                    history=history,
                )
            )
        messages.append(own)
    return messages


def _history_messages(history: History | None, count: int) -> list[value_pb2.History | None]:
    """What each value remembers; None where there is nothing."""
    if history is None:
        return [None] * count
    now = time.time()
    return [
        None
        if observed_at is None
        else value_pb2.History(
            rollouts=rollouts,
            weight=weight,
            newest_step=newest_step,
            age=_duration(now - observed_at),
        )
        for rollouts, weight, newest_step, observed_at in zip(
            history.rollouts.tolist(),
            history.weight.tolist(),
            history.newest_step,
            history.newest_observed_at,
            strict=True,
        )
    ]


def policy_message(record: PolicyRecord) -> policy_pb2.Policy:
    """A policy's description."""
    return policy_pb2.Policy(
        policy_id=record.policy_id,
        version=record.version,
        newest_step=record.newest_step,
        mean_reward=record.mean_reward,
        created_at=_timestamp(record.created_at),
        updated_at=_timestamp(record.updated_at),
        mean_cost=record.mean_cost,
        mean_tokens=record.mean_tokens,
        price=price_message(record.price),
        labels=record.labels,
        outcomes=record.outcomes,
    )


def price_message(price: Price | None) -> policy_pb2.Price | None:
    """A price."""
    if price is None:
        return None
    return policy_pb2.Price(**{PRICE_FIELDS[price.unit]: price.per_token})


def context_message(prediction: Prediction) -> value_pb2.Context:
    """What values rest on."""
    summary = prediction.context
    context = value_pb2.Context(
        version=summary.version,
        rows=summary.rows,
        newest_step=summary.newest_step,
        peers=prediction.peers,
    )
    if summary.newest_observed_at is not None:
        context.age.CopyFrom(_duration(time.time() - summary.newest_observed_at))
    return context


def _duration(seconds: float) -> Duration:
    """A duration; 0 for what a caller's clock has in the future."""
    seconds = max(0.0, seconds)
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
