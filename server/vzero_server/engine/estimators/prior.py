"""Values of policies of whom too little is known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vzero_server.engine.context.window import ContextWindow
from vzero_server.engine.estimators.base import Question
from vzero_server.values.values import Basis, Values

PRIOR_SAMPLE_SIZE = 2.0
"""What a prior is worth, in rollouts of the very prompt."""


@dataclass(frozen=True, slots=True)
class _Mean:
    value: float
    nbytes: int = 64


class Prior:
    """For a server without a head: the context's mean, drawn towards ½."""

    depth = 0

    def encode(self, window: ContextWindow) -> _Mean:
        """See ``Estimator``; the window may be empty."""
        return _Mean((float(window.rewards.sum()) + 1.0) / (len(window) + 2.0))

    def predict(self, questions: Sequence[Question]) -> list[Values]:
        """See ``Estimator``."""
        answers = []
        for question in questions:
            means = np.full(len(question.queries), question.context.value)
            worth = np.full(len(means), PRIOR_SAMPLE_SIZE)
            answers.append(Values(means, means, worth, Basis.PRIOR))
        return answers

    def quick(self, question: Question) -> bool:
        """See ``Estimator``."""
        return True
