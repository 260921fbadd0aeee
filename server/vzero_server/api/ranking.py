"""Ranks policies by the values of their predictions and their costs."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vzero_server.api.errors import InvalidRequestError
from vzero_server.decisions import ranking
from vzero_server.decisions.costs import expected_cost, normalised_costs
from vzero_server.decisions.ranking import Mode, Ranking, Relabelling
from vzero_server.engine.options import ReadOptions
from vzero_server.engine.predictor import Prediction, Predictor
from vzero_server.storage.base import OutcomeStore
from vzero_server.storage.records import PolicyRecord, PriceUnit
from vzero_server.types import FloatArray
from vzero_server.values.beta import PRIOR


@dataclass(frozen=True, slots=True)
class RankingCriteria:
    """How policies are ranked.

    Attributes:
        betas: Preferences from 0, cost alone, to 1, success alone; at least one.
        mode: Whether success and cost are combined after the head or before it.
        costs: Costs of one rollout by policy, which replace those of the store.
        min_value: Policies with a lower value come last; None: none do.
        max_cost: Policies with a higher or unknown expected cost come last; None: none do.
        labels: Policies without all of these labels come last.
    """

    betas: Sequence[float]
    mode: Mode
    costs: Mapping[str, float]
    min_value: float | None
    max_cost: float | None
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class RankedPolicies:
    """P policies in order for n prompts and b preferences.

    Attributes:
        policy_ids: The policies, ``[P]``.
        betas: The preferences, ``[b]``.
        ranking: Their order for each preference and prompt.
        predictions: Their values, ``[P]``.
        costs: Expected cost of one rollout of each, ``[P]``; None if unknown.
    """

    policy_ids: Sequence[str]
    betas: Sequence[float]
    ranking: Ranking
    predictions: Sequence[Prediction]
    costs: Sequence[float | None]


class PolicyRanker:
    """Ranks the policies of a store."""

    def __init__(self, store: OutcomeStore, predictor: Predictor) -> None:
        """Set where policies are described and where their values come from."""
        self._store = store
        self._predictor = predictor

    async def rank(
        self,
        policy_ids: Sequence[str],
        prompts: Sequence[str],
        criteria: RankingCriteria,
        options: ReadOptions,
    ) -> RankedPolicies:
        """Rank policies for each prompt.

        Args:
            policy_ids: The policies, ``[P]``, each once.
            prompts: The prompts, ``[n]``.
            criteria: How to rank.
            options: How to compute the values.

        Raises:
            UnknownPolicyError: A policy is unknown.
            InvalidRequestError: Costs name other policies, or prices cannot be compared.
        """
        # The records come from the disk while the values are computed.
        records, predictions = await asyncio.gather(
            self._store.policies_by_id(policy_ids),
            self._predictor.values_of_many(policy_ids, prompts, options),
        )
        costs = expected_costs(records, criteria.costs)
        relative_costs = normalised_costs(costs)
        values = np.stack([prediction.values.mean for prediction in predictions], axis=1)
        if criteria.mode is Mode.PAPER:
            scores = np.stack(
                [
                    await self._relabelled_values(
                        policy_ids,
                        prompts,
                        [Relabelling.of(beta, float(cost)) for cost in relative_costs],
                        options,
                        values,
                    )
                    for beta in criteria.betas
                ]
            )
        else:
            scores = ranking.decomposed_scores(values, relative_costs, criteria.betas)
        eligible = ranking.eligible(
            values,
            costs,
            min_value=criteria.min_value,
            max_cost=criteria.max_cost,
            admitted=[criteria.labels.items() <= record.labels.items() for record in records],
        )
        ranked = ranking.rank(scores, relative_costs, eligible)
        return RankedPolicies(policy_ids, criteria.betas, ranked, predictions, costs)

    async def _relabelled_values(
        self,
        policy_ids: Sequence[str],
        prompts: Sequence[str],
        relabellings: Sequence[Relabelling],
        options: ReadOptions,
        values: FloatArray,
    ) -> FloatArray:
        """Return values of contexts with relabelled rewards (Eq. 11), ``[n, P]``."""
        predictions = await self._predictor.relabelled_values(
            policy_ids, prompts, relabellings, options
        )
        columns = []
        for prediction, relabelling, column in zip(
            predictions, relabellings, values.T, strict=True
        ):
            # A prior is a value of rewards. It has hardly a row that could be relabelled.
            is_prior = prediction.values.basis == PRIOR
            relabelled = relabelling.scale * column + relabelling.shift
            columns.append(relabelled if is_prior else prediction.values.mean)
        return np.stack(columns, axis=1)


def expected_costs(
    records: Sequence[PolicyRecord], overrides: Mapping[str, float]
) -> list[float | None]:
    """Return the expected cost of one rollout of each policy, ``[P]``; None if unknown.

    Args:
        records: The policies.
        overrides: Costs that replace those of the records, by policy.

    Raises:
        InvalidRequestError: A cost is of another policy, or prices cannot be compared.
    """
    for policy_id in overrides.keys() - {record.policy_id for record in records}:
        raise InvalidRequestError.of("costs", f"names {policy_id!r}, which is not ranked")
    priced: dict[PriceUnit, str] = {}
    costs: list[float | None] = []
    for record in records:
        if record.policy_id in overrides:
            costs.append(overrides[record.policy_id])
            continue
        if record.price is not None:
            priced.setdefault(record.price.unit, record.policy_id)
        per_token = record.price.per_token if record.price else None
        costs.append(expected_cost(per_token, record.mean_tokens, record.mean_cost))
    if len(priced) > 1:
        reason = (
            f"cannot be compared: {priced[PriceUnit.PARAMS]!r} is priced by parameters, "
            f"{priced[PriceUnit.MONEY]!r} in money; name costs for one kind"
        )
        raise InvalidRequestError.of("policy_ids", reason)
    return costs
