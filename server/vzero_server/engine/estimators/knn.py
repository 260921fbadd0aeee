"""The paper's kNN baseline."""

from collections.abc import Sequence

import numpy as np

from vzero_server.engine.context.window import ContextWindow
from vzero_server.engine.estimators.base import Question
from vzero_server.types import Features
from vzero_server.values.dispersion import concentration
from vzero_server.values.values import Basis, Values

# Queries of a quick question: one takes some 0.1 ms.
_QUICK = 8


class NearestNeighbours:
    """Mean reward of the k nearest prompts of the context (Eq. 52).

    The interval is that of the prompt's own success rate, not of the mean: neighbours
    that disagree make it wide, however many they are.
    """

    depth = None

    def __init__(self, k: int = 64) -> None:
        self._k = k

    def encode(self, window: ContextWindow) -> ContextWindow:
        """See ``Estimator``: the window's index is all there is to know."""
        return window

    def predict(self, questions: Sequence[Question]) -> list[Values]:
        """See ``Estimator``; no context may be empty."""
        return [self._values(question.context, question.queries) for question in questions]

    def quick(self, question: Question) -> bool:
        """See ``Estimator``."""
        return len(question.queries) <= _QUICK

    def _values(self, window: ContextWindow, queries: Features) -> Values:
        embeddings = queries[:, : window.index.d].astype(np.float32)
        positions = window.nearest(embeddings, min(self._k, len(window)))
        rewards = window.rewards[positions].astype(np.float64)
        mean = rewards.mean(axis=1)
        centre = (rewards.sum(axis=1) + 0.5) / (rewards.shape[1] + 1.0)
        kappa = concentration(rewards, window.rollouts[positions], mean[:, None])
        return Values(mean, centre, kappa, Basis.KNN)
