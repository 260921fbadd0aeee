"""Calls the predictor with keyword arguments until it takes ``ReadOptions`` itself."""

from collections.abc import Sequence
from typing import Any

from vzero_server.decisions.ranking import Label
from vzero_server.engine.context.context_cache import EstimatorName
from vzero_server.engine.options import DEFAULTS, ReadOptions
from vzero_server.engine.predictor import Prediction
from vzero_server.engine.predictor import Predictor as KeywordPredictor
from vzero_server.errors import UnknownEstimatorError


class Predictor:
    """A predictor whose methods take ``ReadOptions``."""

    def __init__(self, predictor: KeywordPredictor) -> None:
        self._predictor = predictor
        self.update = predictor.update

    async def values(
        self, policy_id: str, prompts: Sequence[str], options: ReadOptions = DEFAULTS
    ) -> Prediction:
        """Return the values of prompts under a policy."""
        return await self._predictor.values(
            policy_id,
            prompts,
            as_of_step=options.as_of_step,
            min_version=options.min_version,
            **_keywords(options),
        )

    async def values_of_many(
        self, policy_ids: Sequence[str], prompts: Sequence[str], options: ReadOptions = DEFAULTS
    ) -> list[Prediction]:
        """Return the values of prompts under several policies."""
        return await self._predictor.values_of_many(policy_ids, prompts, **_keywords(options))

    async def relabelled_values(
        self,
        policy_ids: Sequence[str],
        prompts: Sequence[str],
        labels: Sequence[Label],
        options: ReadOptions = DEFAULTS,
    ) -> list[Prediction]:
        """Return estimates of labels instead of success rates."""
        return await self._predictor.values_of_many(
            policy_ids, prompts, labels=labels, **_keywords(options)
        )


def _keywords(options: ReadOptions) -> dict[str, Any]:
    try:
        estimator = EstimatorName(options.estimator.upper())
    except ValueError:
        names = [name.lower() for name in EstimatorName]
        raise UnknownEstimatorError(options.estimator, names) from None
    return {
        "estimator": estimator,
        "with_peers": options.with_peers,
        "with_history": options.with_history,
    }
