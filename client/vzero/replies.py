"""From protobuf replies to dataclasses."""

from collections.abc import Iterable, Sequence
from datetime import UTC

import numpy as np
import numpy.typing as npt

from vzero.decisions import Allocation, Ranking
from vzero.errors import Internal
from vzero.v1 import policy_pb2, value_pb2
from vzero.values import Ack, Context, Fleet, History, Policy, Price, Values


def values(
    response: value_pb2.PredictResponse | value_pb2.AllocateBudgetResponse, expected: int
) -> Values:
    """Read the values of one call.

    Args:
        response: the reply.
        expected: number of prompts that were asked.

    Raises:
        Internal: the server answered another number of values.
    """
    rows = response.values
    if len(rows) != expected:
        raise Internal(f"asked for {expected} values and got {len(rows)}")
    columns = np.array(
        [(row.mean, row.lower, row.upper, row.effective_sample_size) for row in rows],
        dtype=np.float64,
    ).reshape(-1, 4)
    mean, lower, upper, size = np.ascontiguousarray(columns.T)
    context = _context(response.context)
    return Values(mean, lower, upper, size, _basis(rows), context, _history(rows))


def ack(
    response: value_pb2.UpdateContextResponse | policy_pb2.ImportContextResponse,
) -> Ack:
    """Read the acknowledgement of a chunk or of a bundle."""
    return Ack(response.policy_id, response.version, response.accepted, response.duplicates)


def policy(message: policy_pb2.Policy) -> Policy:
    """Read the description of a policy."""
    return Policy(
        policy_id=message.policy_id,
        version=message.version,
        newest_step=message.newest_step if message.HasField("newest_step") else None,
        mean_reward=message.mean_reward,
        created_at=message.created_at.ToDatetime(tzinfo=UTC),
        updated_at=message.updated_at.ToDatetime(tzinfo=UTC),
        mean_cost=message.mean_cost if message.HasField("mean_cost") else None,
        mean_tokens=message.mean_tokens if message.HasField("mean_tokens") else None,
        price=_price(message.price),
        labels=dict(message.labels),
    )


def fleet(message: policy_pb2.Fleet) -> Fleet:
    """Read a fleet."""
    return Fleet(message.name, tuple(message.policy_ids))


def allocation(response: value_pb2.AllocateBudgetResponse, expected: int) -> Allocation:
    """Read an allocation.

    Args:
        response: the reply.
        expected: number of prompts that were asked.

    Raises:
        Internal: the server answered another number of prompts.
    """
    if len(response.rollouts) != expected:
        raise Internal(f"asked for {expected} prompts and got {len(response.rollouts)}")
    return Allocation(
        rollouts=np.array(response.rollouts, dtype=np.int64),
        values=values(response, expected),
        utility=response.utility,
        upper_bound=response.upper_bound,
        spent=response.spent,
        decision_id=response.decision_id,
    )


def rankings(response: value_pb2.RankModelsResponse, expected: int) -> list[Ranking]:
    """Read the rankings of one call.

    Args:
        response: the reply.
        expected: number of prompts that were asked.

    Raises:
        Internal: the server answered another number of prompts.
    """
    if len(response.rankings) != expected:
        raise Internal(f"asked for {expected} rankings and got {len(response.rankings)}")
    return [_ranking(one) for one in response.rankings]


def _ranking(message: value_pb2.Ranking) -> Ranking:
    candidates = message.candidates
    unknown = float("nan")
    columns = np.array(
        [
            (
                one.score,
                one.value.mean,
                one.value.lower,
                one.value.upper,
                one.value.effective_sample_size,
                one.expected_cost if one.HasField("expected_cost") else unknown,
            )
            for one in candidates
        ]
    )
    scores, mean, lower, upper, size, cost = np.ascontiguousarray(columns.T)
    return Ranking(
        policies=tuple(one.policy_id for one in candidates),
        scores=scores,
        mean=mean,
        lower=lower,
        upper=upper,
        effective_sample_size=size,
        basis=_basis([one.value for one in candidates]),
        expected_cost=cost,
        eligible=np.array([one.eligible for one in candidates]),
        betas=np.array([one.beta for one in message.orders]),
        orders=np.array([one.positions for one in message.orders], dtype=np.int64),
        order_scores=np.array([one.scores for one in message.orders]),
        decision_id=message.decision_id,
    )


def _price(message: policy_pb2.Price) -> Price | None:
    match message.WhichOneof("per_token"):
        case "params_ratio":
            return Price(message.params_ratio, "params")
        case "money":
            return Price(message.money, "money")
    return None


def _basis(rows: Iterable[value_pb2.Value]) -> npt.NDArray[np.str_]:
    """Return the names of the bases [n], in upper case."""
    return np.array([row.basis.upper() for row in rows], dtype=np.str_)


def _history(rows: Sequence[value_pb2.Value]) -> History:
    found = History.empty(len(rows))
    for place, value in enumerate(rows):
        if value.HasField("history"):
            own = value.history
            found.rollouts[place] = own.rollouts
            found.weight[place] = own.weight
            if own.HasField("newest_step"):
                found.newest_step[place] = own.newest_step
            found.age_seconds[place] = own.age.ToTimedelta().total_seconds()
    return found


def _context(message: value_pb2.Context) -> Context:
    return Context(
        version=message.version,
        rows=message.rows,
        newest_step=message.newest_step if message.HasField("newest_step") else None,
        age_seconds=message.age.ToTimedelta().total_seconds() if message.HasField("age") else None,
        peers=message.peers,
    )
