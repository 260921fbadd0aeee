"""An estimator that is not part of the server: logistic regression on embeddings.

A server imports this module if the setting ``estimator_modules`` names it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from vzero_server.engine.estimators.base import Correction, Query
from vzero_server.engine.estimators.registry import EstimatorEntry, LoadContext, register
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.types import Features, FloatArray
from vzero_server.values.beta import Values
from vzero_server.values.dispersion import concentration
from vzero_server.values.evidence import ContextEvidence

NAME = "logistic"
RIDGE = 1.0
STEPS = 8


@dataclass(frozen=True)
class FittedLogistic:
    """Coefficients, and the evidence that corrections are fitted to."""

    coefficients: FloatArray
    evidence: ContextEvidence
    basis: str = NAME

    @property
    def nbytes(self) -> int:
        """Memory it takes, in bytes."""
        return self.coefficients.nbytes + 32 * len(self.evidence.prompts)


class Logistic:
    """Ridge logistic regression of rewards on embeddings."""

    name = NAME
    corrections = Correction.PEERS | Correction.FLEET | Correction.HISTORY
    rows_needed = None

    def window_features(self, features: Features) -> None:
        """See ``Estimator``."""

    def fit(self, window: ContextWindow) -> FittedLogistic:
        """See ``Estimator``."""
        design = _design(window.embeddings)
        rewards = window.rewards.astype(np.float64)
        mean = (rewards.sum() + 1.0) / (len(rewards) + 2.0)
        offset = float(logit(mean))
        coefficients = np.zeros(design.shape[1])
        for _ in range(STEPS):
            rates = expit(offset + design @ coefficients)
            weights = rates * (1.0 - rates)
            curvature = (design * weights[:, None]).T @ design + RIDGE * np.eye(design.shape[1])
            gradient = design.T @ (rewards - rates) - RIDGE * coefficients
            coefficients = coefficients + np.linalg.solve(curvature, gradient)
        logits = offset + design @ coefficients
        # One Newton step away from the fit: leave-one-out in closed form.
        leverage = weights * np.einsum("nd,dn->n", design, np.linalg.solve(curvature, design.T))
        loo_logits = logits - leverage / (1.0 - leverage) * (rewards - rates) / weights
        kappa = concentration(rewards[None], window.rollouts[None], expit(loo_logits)[None])
        return FittedLogistic(
            coefficients=np.append(coefficients, offset),
            evidence=ContextEvidence(
                prompts=window.prompts,
                rewards=rewards,
                rollouts=window.rollouts,
                loo_logits=loo_logits,
                offset=offset,
                drift=0.0,
                kappa=float(kappa[0]),
            ),
        )

    def predict(self, queries: Sequence[Query]) -> list[Values]:
        """See ``Estimator``."""
        answers = []
        for query in queries:
            fitted = query.context
            *coefficients, offset = fitted.coefficients
            embeddings = query.features[:, : len(coefficients)].astype(np.float32)
            rates = expit(offset + _design(embeddings) @ np.array(coefficients))
            answers.append(Values.around(rates, np.full(len(rates), fitted.evidence.kappa), NAME))
        return answers

    def runs_inline(self, query: Query) -> bool:
        """See ``Estimator``."""
        return len(query) <= 8


def _design(embeddings: np.ndarray) -> FloatArray:
    return np.asarray(embeddings, np.float64)


def _load(context: LoadContext) -> Logistic:
    return Logistic()


register(EstimatorEntry(NAME, preference=-1, load=_load))
