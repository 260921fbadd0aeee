"""Between protobuf messages and decisions: allocations, rankings, prices, fleets."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vzero.v1 import policy_pb2, value_pb2
from vzero_server.api import convert
from vzero_server.api.errors import InvalidRequestError, Violation
from vzero_server.decisions.allocation import Allocation, allocate
from vzero_server.decisions.constraints import AllocationError, Constraints, uncertainty_floors
from vzero_server.decisions.costs import expected_cost
from vzero_server.decisions.ranking import Ranking
from vzero_server.decisions.utility import Objective
from vzero_server.engine.predictor import Prediction
from vzero_server.storage.records import Fleet, PolicyRecord, Price, PriceUnit

_OBJECTIVES: dict[int, Objective] = {
    value_pb2.OBJECTIVE_UNSPECIFIED: Objective.EXPECTED,
    value_pb2.OBJECTIVE_PAPER: Objective.PAPER,
    value_pb2.OBJECTIVE_UTILITY: Objective.UTILITY,
    value_pb2.OBJECTIVE_EXPECTED: Objective.EXPECTED,
    value_pb2.OBJECTIVE_NONZERO_GRADIENT: Objective.NONZERO_GRADIENT,
}

# What unset fields stand for.
_MINIMUM, _MAXIMUM, _UNCERTAIN_WIDTH = 2, 128, 0.8

# A price by the field of its message.
_UNITS = {field: unit for unit, field in convert.PRICE_FIELDS.items()}


def check_token_costs(request: value_pb2.AllocateBudgetRequest) -> None:
    """Check what the rules of a message cannot say.

    Raises:
        InvalidRequestError: There is not one cost per prompt.
    """
    costs, prompts = len(request.token_costs), len(request.prompts)
    if costs not in (0, prompts):
        reason = f"must have one value per prompt: {prompts}, not {costs}"
        raise InvalidRequestError([Violation("token_costs", reason)])


def allocated(
    request: value_pb2.AllocateBudgetRequest, prediction: Prediction
) -> value_pb2.AllocateBudgetResponse:
    """The reply of ``AllocateBudget``; takes milliseconds, or long if the optimum is demanded.

    Raises:
        InvalidRequestError: No allocation meets the constraints.
    """
    values = prediction.values
    floors = None
    if request.HasField("uncertain_minimum"):
        width = request.uncertain_width if request.HasField("uncertain_width") else _UNCERTAIN_WIDTH
        floors = uncertainty_floors(values.lower, values.upper, width, request.uncertain_minimum)
    constraints = Constraints(
        total=request.total,
        minimum=request.minimum if request.HasField("minimum") else _MINIMUM,
        maximum=request.maximum if request.HasField("maximum") else _MAXIMUM,
        multiple_of=request.multiple_of or 1,
        token_costs=np.array(request.token_costs) if request.token_costs else None,
        floors=floors,
        skip=request.skip,
    )
    try:
        found = allocate(
            values.mean,
            values.effective_sample_size,
            constraints,
            _OBJECTIVES[request.objective],
            exact=request.exact,
        )
    except AllocationError as error:
        raise InvalidRequestError([Violation(error.field, error.description)]) from None
    return _allocate_response(found, prediction)


def _allocate_response(
    found: Allocation, prediction: Prediction
) -> value_pb2.AllocateBudgetResponse:
    (values,) = convert.value_messages([prediction.values])
    return value_pb2.AllocateBudgetResponse(
        rollouts=found.rollouts.tolist(),
        values=values,
        utility=found.utility,
        upper_bound=found.upper_bound,
        spent=found.spent,
        context=convert.context_message(prediction),
        decision_id=uuid.uuid4().hex,
    )


def expected_costs(
    records: Sequence[PolicyRecord], instead: Mapping[str, float]
) -> list[float | None]:
    """What one rollout of each policy should cost; None if nothing says.

    Args:
        records: The policies.
        instead: Costs the caller names, by policy.

    Raises:
        InvalidRequestError: A cost is of no such policy, or prices cannot be compared.
    """
    for policy_id in instead.keys() - {record.policy_id for record in records}:
        reason = f"names {policy_id!r}, which is not ranked"
        raise InvalidRequestError([Violation("costs", reason)])
    units: dict[PriceUnit, str] = {}
    costs: list[float | None] = []
    for record in records:
        if record.policy_id in instead:
            costs.append(instead[record.policy_id])
            continue
        if record.price is not None:
            units.setdefault(record.price.unit, record.policy_id)
        per_token = record.price.per_token if record.price else None
        costs.append(expected_cost(per_token, record.mean_tokens, record.mean_cost))
    if len(units) > 1:
        reason = (
            f"cannot be compared: {units[PriceUnit.PARAMS]!r} is priced by parameters, "
            f"{units[PriceUnit.MONEY]!r} in money; name costs for one kind"
        )
        raise InvalidRequestError([Violation("policy_ids", reason)])
    return costs


def rank_response(
    ranking: Ranking,
    betas: Sequence[float],
    policy_ids: Sequence[str],
    predictions: Sequence[Prediction],
    costs: Sequence[float | None],
) -> value_pb2.RankModelsResponse:
    """The reply of ``RankModels``.

    Args:
        ranking: Of b preferences, n prompts and P policies.
        betas: The preferences, ``[b]``.
        policy_ids: The policies, ``[P]``.
        predictions: Their values, ``[P]``.
        costs: Expected cost of a rollout of each, ``[P]``, None if unknown.
    """
    values = convert.value_messages([prediction.values for prediction in predictions])
    rankings = []
    for prompt, first in enumerate(ranking.order[0]):
        scores = ranking.scores[:, prompt]
        candidates = [
            value_pb2.Candidate(
                policy_id=policy_ids[policy],
                score=scores[0, policy],
                value=values[policy][prompt],
                expected_cost=costs[policy],
                eligible=bool(ranking.eligible[prompt, policy]),
            )
            for policy in first.tolist()
        ]
        # Where each policy stands in the list of candidates.
        place = np.argsort(first)
        orders = [
            value_pb2.Order(beta=beta, positions=place[order].tolist(), scores=own[order].tolist())
            for beta, order, own in zip(betas, ranking.order[:, prompt], scores, strict=True)
        ]
        rankings.append(
            value_pb2.Ranking(decision_id=uuid.uuid4().hex, candidates=candidates, orders=orders)
        )
    return value_pb2.RankModelsResponse(rankings=rankings)


def policy_fields(request: policy_pb2.UpdatePolicyRequest) -> dict[str, Any]:
    """What ``UpdatePolicy`` is to set, as ``contexts.log.update_policy`` takes it.

    Raises:
        InvalidRequestError: The mask names what cannot be set.
    """
    given: dict[str, Any] = {"price": _price(request.price), "labels": dict(request.labels)}
    wanted = list(request.update_mask.paths)
    for path in wanted:
        if path not in given:
            reason = f"names {path!r}; what can be set is {', '.join(given)}"
            raise InvalidRequestError([Violation("update_mask", reason)])
    if not wanted:
        wanted = [name for name, there in _given(request).items() if there]
    return {name: given[name] for name in wanted}


def _given(request: policy_pb2.UpdatePolicyRequest) -> dict[str, bool]:
    return {"price": request.HasField("price"), "labels": bool(request.labels)}


def _price(message: policy_pb2.Price) -> Price | None:
    field = message.WhichOneof("per_token")
    return None if field is None else Price(getattr(message, field), _UNITS[field])


def fleet_message(fleet: Fleet) -> policy_pb2.Fleet:
    """A fleet."""
    return policy_pb2.Fleet(name=fleet.name, policy_ids=fleet.policy_ids)
