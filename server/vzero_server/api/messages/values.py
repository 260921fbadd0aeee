"""Values and what they rest on, as messages."""

import time
from collections.abc import Sequence

from vzero.v1 import value_pb2
from vzero_server.api.messages.times import duration_message
from vzero_server.engine.predictor import Prediction
from vzero_server.values.beta import HistorySummary, Values


def predict_response(prediction: Prediction) -> value_pb2.PredictResponse:
    """Return the reply of ``Predict``."""
    (values,) = value_messages([prediction.values])
    return value_pb2.PredictResponse(values=values, context=context_message(prediction))


def value_messages(values_of_policies: Sequence[Values]) -> list[list[value_pb2.Value]]:
    """Return one message per value, in order, for the values of each policy."""
    # The intervals of all policies are computed at once.
    joined = Values.joined(values_of_policies)
    columns = zip(
        joined.mean.tolist(),
        joined.lower.tolist(),
        joined.upper.tolist(),
        joined.effective_sample_size.tolist(),
        strict=True,
    )
    messages = []
    for values in values_of_policies:
        basis = values.basis
        policy_messages = []
        for history in _history_messages(values.history, len(values.mean)):
            mean, lower, upper, effective_sample_size = next(columns)
            policy_messages.append(
                value_pb2.Value(
                    mean=mean,
                    lower=lower,
                    upper=upper,
                    effective_sample_size=effective_sample_size,
                    basis=basis,
                    history=history,
                )
            )
        messages.append(policy_messages)
    return messages


def _history_messages(history: HistorySummary | None, count: int) -> list[value_pb2.History | None]:
    """Return the history behind each value; None for a prompt without history."""
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
            age=duration_message(now - observed_at),
        )
        for rollouts, weight, newest_step, observed_at in zip(
            history.rollouts.tolist(),
            history.weight.tolist(),
            history.newest_step,
            history.newest_observed_at,
            strict=True,
        )
    ]


def context_message(prediction: Prediction) -> value_pb2.Context:
    """Return the description of the context behind a prediction."""
    summary = prediction.context
    context = value_pb2.Context(
        version=summary.version,
        rows=summary.rows,
        newest_step=summary.newest_step,
        peers=prediction.peers,
    )
    if summary.newest_observed_at is not None:
        context.age.CopyFrom(duration_message(time.time() - summary.newest_observed_at))
    return context
