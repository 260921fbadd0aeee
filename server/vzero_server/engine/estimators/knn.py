"""The kNN baseline of the paper."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.registry import EstimatorEntry, LoadContext, register
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.types import Features
from vzero_server.values.beta import Values
from vzero_server.values.dispersion import concentration

NAME = "knn"

# Queries up to which a prediction runs inline: one takes some 0.1 ms.
_INLINE_QUERIES = 8


@dataclass(frozen=True, slots=True)
class IndexedContext:
    """A window, whose index holds all that the estimator needs."""

    window: ContextWindow
    basis: str = NAME
    evidence: None = None

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return self.window.nbytes


class NearestNeighbours:
    """Mean reward of the k nearest prompts of the context (Eq. 52).

    The interval is that of the prompt's own success rate, not of the mean: neighbours that
    disagree make it wide, however many they are.
    """

    name = NAME
    corrections = Correction.HISTORY
    rows_needed = None

    def __init__(self, k: int = 64) -> None:
        self._k = k

    def window_features(self, features: Features) -> None:
        """See ``Estimator``: embeddings suffice."""

    def fit(self, window: ContextWindow) -> IndexedContext:
        """See ``Estimator``."""
        return IndexedContext(window)

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        """See ``Estimator``; no context may be empty."""
        return [self._values(query.context.window, query.features) for query in queries]

    def runs_inline(self, query: Query) -> bool:
        """See ``Estimator``."""
        return len(query) <= _INLINE_QUERIES

    def _values(self, window: ContextWindow, features: Features) -> Values:
        embeddings = features[:, : window.index.d].astype(np.float32)
        positions = window.nearest(embeddings, min(self._k, len(window)))
        rewards = window.rewards[positions].astype(np.float64)
        mean = rewards.mean(axis=1)
        centre = (rewards.sum(axis=1) + 0.5) / (rewards.shape[1] + 1.0)
        kappa = concentration(rewards, window.rollouts[positions], mean[:, None])
        return Values(mean, centre, kappa, NAME)


def _load(context: LoadContext) -> NearestNeighbours:
    return NearestNeighbours(context.settings.knn_k)


register(EstimatorEntry(NAME, preference=0, load=_load))
