"""Allocations and rankings as messages."""

import uuid
from collections.abc import Sequence

import numpy as np

from vzero.v1 import value_pb2
from vzero_server.api.allocation import AllocationOptions
from vzero_server.api.errors import InvalidRequestError
from vzero_server.api.messages.values import context_message, value_messages
from vzero_server.api.ranking import RankedPolicies, RankingCriteria
from vzero_server.decisions.allocation import Allocation
from vzero_server.decisions.ranking import Mode
from vzero_server.decisions.utility import Objective
from vzero_server.engine.predictor import Prediction

_OBJECTIVES: dict[int, Objective] = {
    value_pb2.OBJECTIVE_UNSPECIFIED: Objective.EXPECTED,
    value_pb2.OBJECTIVE_PAPER: Objective.PAPER,
    value_pb2.OBJECTIVE_UTILITY: Objective.UTILITY,
    value_pb2.OBJECTIVE_EXPECTED: Objective.EXPECTED,
    value_pb2.OBJECTIVE_NONZERO_GRADIENT: Objective.NONZERO_GRADIENT,
}

# Defaults of unset fields.
_MINIMUM, _MAXIMUM, _UNCERTAIN_WIDTH = 2, 128, 0.8
_BETA = 0.7


def allocation_options(request: value_pb2.AllocateBudgetRequest) -> AllocationOptions:
    """Return the options of an allocation.

    Raises:
        InvalidRequestError: The number of token costs is not that of the prompts.
    """
    costs, prompts = len(request.token_costs), len(request.prompts)
    if costs not in (0, prompts):
        reason = f"must have one value per prompt: {prompts}, not {costs}"
        raise InvalidRequestError.of("token_costs", reason)
    return AllocationOptions(
        total=request.total,
        minimum=request.minimum if request.HasField("minimum") else _MINIMUM,
        maximum=request.maximum if request.HasField("maximum") else _MAXIMUM,
        multiple_of=request.multiple_of or 1,
        token_costs=np.array(request.token_costs) if costs else None,
        skip=request.skip,
        uncertain_minimum=(
            request.uncertain_minimum if request.HasField("uncertain_minimum") else None
        ),
        uncertain_width=(
            request.uncertain_width if request.HasField("uncertain_width") else _UNCERTAIN_WIDTH
        ),
        objective=_OBJECTIVES[request.objective],
        exact=request.exact,
    )


def allocate_response(
    allocation: Allocation, prediction: Prediction
) -> value_pb2.AllocateBudgetResponse:
    """Return the reply of ``AllocateBudget``, with a new decision id."""
    (values,) = value_messages([prediction.values])
    return value_pb2.AllocateBudgetResponse(
        rollouts=allocation.rollouts.tolist(),
        values=values,
        utility=allocation.utility,
        upper_bound=allocation.upper_bound,
        spent=allocation.spent,
        context=context_message(prediction),
        decision_id=uuid.uuid4().hex,
    )


def check_ranked(request: value_pb2.RankModelsRequest) -> None:
    """Check that a request names policies or a fleet, and not both.

    Raises:
        InvalidRequestError: It names both or neither.
    """
    if bool(request.policy_ids) == bool(request.fleet):
        raise InvalidRequestError.of("policy_ids", "name policies, or else a fleet")


def ranking_criteria(request: value_pb2.RankModelsRequest) -> RankingCriteria:
    """Return the criteria of a ranking."""
    return RankingCriteria(
        betas=list(request.betas) or [_BETA],
        mode=Mode.PAPER if request.mode == value_pb2.RANK_MODE_PAPER else Mode.DECOMPOSED,
        costs=dict(request.costs),
        min_value=request.min_value if request.HasField("min_value") else None,
        max_cost=request.max_cost if request.HasField("max_cost") else None,
        labels=dict(request.labels),
    )


def rank_response(ranked: RankedPolicies) -> value_pb2.RankModelsResponse:
    """Return the reply of ``RankModels``, with a new decision id per prompt."""
    values = value_messages([prediction.values for prediction in ranked.predictions])
    return value_pb2.RankModelsResponse(
        rankings=[
            _ranking_message(ranked, [column[prompt] for column in values], prompt)
            for prompt in range(ranked.ranking.order.shape[1])
        ]
    )


def _ranking_message(
    ranked: RankedPolicies, values: Sequence[value_pb2.Value], prompt: int
) -> value_pb2.Ranking:
    """Return the order of all policies for one prompt, given their values."""
    ranking = ranked.ranking
    first_order = ranking.order[0, prompt]
    candidates = [
        value_pb2.Candidate(
            policy_id=ranked.policy_ids[policy],
            score=ranking.scores[0, prompt, policy],
            value=values[policy],
            expected_cost=ranked.costs[policy],
            eligible=bool(ranking.eligible[prompt, policy]),
        )
        for policy in first_order.tolist()
    ]
    # Position of each policy in the list of candidates.
    position = np.argsort(first_order)
    return value_pb2.Ranking(
        decision_id=uuid.uuid4().hex,
        candidates=candidates,
        orders=[
            value_pb2.Order(
                beta=beta, positions=position[order].tolist(), scores=scores[order].tolist()
            )
            for beta, order, scores in zip(
                ranked.betas, ranking.order[:, prompt], ranking.scores[:, prompt], strict=True
            )
        ],
    )
