"""Values of policies with too few outcomes to tell prompts apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.types import Features
from vzero_server.values.beta import PRIOR, Values

PRIOR_SAMPLE_SIZE = 2.0
"""What a prior is worth, in rollouts of the very prompt."""


@dataclass(frozen=True, slots=True)
class ContextMean:
    """A context of which only the mean reward is used."""

    mean: float
    basis: str = PRIOR
    evidence: None = None
    nbytes: int = 64


class Prior:
    """The context's mean reward, drawn towards 1/2; for a server without an in-context head."""

    name = PRIOR
    corrections = Correction.HISTORY
    rows_needed = 0

    def window_features(self, features: Features) -> None:
        """See ``Estimator``: it reads no prompt."""

    def fit(self, window: ContextWindow) -> ContextMean:
        """See ``Estimator``; the window may be empty."""
        return ContextMean((float(window.rewards.sum()) + 1.0) / (len(window) + 2.0))

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        """See ``Estimator``."""
        answers = []
        for query in queries:
            means = np.full(len(query), query.context.mean)
            sample_size = np.full(len(query), PRIOR_SAMPLE_SIZE)
            answers.append(Values(means, means, sample_size, PRIOR))
        return answers

    def runs_inline(self, query: Query) -> bool:
        """See ``Estimator``."""
        return True
