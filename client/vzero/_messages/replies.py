"""Replies about values and decisions as dataclasses."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from vzero.decisions import Allocation, Ranking
from vzero.errors import Internal
from vzero.v1 import value_pb2
from vzero.values import Context, History, Values


def read_values(
    reply: value_pb2.PredictResponse | value_pb2.AllocateBudgetResponse, prompt_count: int
) -> Values:
    """Read the values of one call.

    Args:
        reply: message of the server.
        prompt_count: number of prompts in the request.

    Raises:
        Internal: the reply has another number of values.
    """
    _check_count("values", len(reply.values), prompt_count)
    columns = np.array(
        [
            (value.mean, value.lower, value.upper, value.effective_sample_size)
            for value in reply.values
        ],
        dtype=np.float64,
    ).reshape(-1, 4)
    mean, lower, upper, effective_sample_size = np.ascontiguousarray(columns.T)
    return Values(
        mean=mean,
        lower=lower,
        upper=upper,
        effective_sample_size=effective_sample_size,
        basis=_basis(reply.values),
        context=_context(reply.context),
        history=_history(reply.values),
    )


def read_allocation(reply: value_pb2.AllocateBudgetResponse, prompt_count: int) -> Allocation:
    """Read an allocation.

    Args:
        reply: message of the server.
        prompt_count: number of prompts in the request.

    Raises:
        Internal: the reply has another number of prompts.
    """
    _check_count("rollouts", len(reply.rollouts), prompt_count)
    return Allocation(
        rollouts=np.array(reply.rollouts, dtype=np.int64),
        values=read_values(reply, prompt_count),
        utility=reply.utility,
        upper_bound=reply.upper_bound,
        spent=reply.spent,
        decision_id=reply.decision_id,
    )


def read_rankings(reply: value_pb2.RankModelsResponse, prompt_count: int) -> list[Ranking]:
    """Read the rankings of one call.

    Args:
        reply: message of the server.
        prompt_count: number of prompts in the request.

    Raises:
        Internal: the reply has another number of rankings.
    """
    _check_count("rankings", len(reply.rankings), prompt_count)
    return [_ranking(ranking) for ranking in reply.rankings]


def _check_count(items: str, count: int, expected: int) -> None:
    if count != expected:
        raise Internal(f"the server sent {count} {items} for {expected} prompts")


def _ranking(message: value_pb2.Ranking) -> Ranking:
    candidates = message.candidates
    columns = np.array(
        [
            (
                candidate.score,
                candidate.value.mean,
                candidate.value.lower,
                candidate.value.upper,
                candidate.value.effective_sample_size,
                candidate.expected_cost if candidate.HasField("expected_cost") else np.nan,
            )
            for candidate in candidates
        ]
    )
    scores, mean, lower, upper, effective_sample_size, cost = np.ascontiguousarray(columns.T)
    return Ranking(
        policies=tuple(candidate.policy_id for candidate in candidates),
        scores=scores,
        mean=mean,
        lower=lower,
        upper=upper,
        effective_sample_size=effective_sample_size,
        basis=_basis(candidate.value for candidate in candidates),
        expected_cost=cost,
        eligible=np.array([candidate.eligible for candidate in candidates]),
        betas=np.array([order.beta for order in message.orders]),
        orders=np.array([order.positions for order in message.orders], dtype=np.int64),
        order_scores=np.array([order.scores for order in message.orders]),
        decision_id=message.decision_id,
    )


def _basis(values: Iterable[value_pb2.Value]) -> npt.NDArray[np.str_]:
    """Upper-case names of the bases [n]; names that this version does not know included."""
    return np.array([value.basis.upper() for value in values], dtype=np.str_)


def _history(values: Sequence[value_pb2.Value]) -> History:
    history = History.empty(len(values))
    for i, value in enumerate(values):
        if value.HasField("history"):
            past = value.history
            history.rollouts[i] = past.rollouts
            history.weight[i] = past.weight
            if past.HasField("newest_step"):
                history.newest_step[i] = past.newest_step
            history.age_seconds[i] = past.age.ToTimedelta().total_seconds()
    return history


def _context(message: value_pb2.Context) -> Context:
    return Context(
        version=message.version,
        rows=message.rows,
        newest_step=message.newest_step if message.HasField("newest_step") else None,
        age_seconds=message.age.ToTimedelta().total_seconds() if message.HasField("age") else None,
        peers=message.peers,
    )
