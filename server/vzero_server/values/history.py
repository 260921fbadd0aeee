"""Values that remember: an estimate and what became of the very prompt before.

A value v with concentration c (``effective_sample_size``) is a prior of the prompt's success
rate. Of the prompt's own past visits, one of
reward r over n rollouts, d visits ago, counts as

    w = rho^d n / (1 + n / M)

rollouts, so that older ones count less, and none for more than M. With
kappa = max(lambda c, 1/4), and s and f the sums of w r and w (1 - r),

    m = (kappa v + s) / (kappa + s + f)        share  g = (s + f) / (kappa + s + f)
    logit p = logit m + g (delta + (beta - 1) logit m)

and the success rate is distributed as Beta(C p, C (1 - p)) with C = (1 - g) c + s + f. delta is
the *drift shift*: how much the policy's logit moves until a prompt comes back; beta undoes that
averages over past checkpoints lie too far from 0 and 1. Without history (g = 0) the value is left
as it is.

lambda, rho, M, delta and beta are fitted to each policy by beta-binomial likelihood, held to a
fit shared by all (``SHARED``), which stands where a policy shows no repeated prompt.

Shapes: n prompts, k past visits of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, expit, logit, psi

from vzero_server.types import FloatArray, IntArray
from vzero_server.values.visits import Past

# A success rate at the very edge has no logit.
_EDGE = 1e-4
# A value counts for at least this many rollouts: with less, one visit without a failure would
# leave no doubt.
_LEAST = 0.25
# Iterations of a fit.
_ITERATIONS = 12
_TINY = 1e-9
# Fits that are kept ready for use.
_FITS = 4096


@dataclass(frozen=True, slots=True)
class Dynamics:
    """How the success rates of one policy move between visits of a prompt.

    Attributes:
        weight: lambda: how much a value counts beside history, relative to its own
            concentration; positive.
        decay: rho: what is left of a visit's count at the next, in (0, 1).
        most: M: rollouts that one visit counts for at most; positive.
        drift: delta: change of the logit until the next visit.
        slope: beta: stretches logits of histories; positive.
    """

    weight: float
    decay: float
    most: float
    drift: float
    slope: float


@dataclass(frozen=True, slots=True)
class Fused:
    """Values after history.

    Attributes:
        mean: Expected success rates, ``[n]``, in [0, 1].
        concentration: C, ``[n]``: rollouts of the very prompt each is worth; positive.
        evidence: Of these, what history counts for, ``[n]``; 0 where there is none.
    """

    mean: FloatArray
    concentration: FloatArray
    evidence: FloatArray


def fuse(
    values: FloatArray,
    concentration: FloatArray,
    past: Past,
    dynamics: Dynamics | Sequence[Dynamics],
) -> Fused:
    """Combine values with what became of the same prompts before.

    Args:
        values: v, ``[n]``, in [0, 1]; they must not rest on the outcomes of ``past``.
        concentration: c, ``[n]``, positive.
        past: Visits of these prompts.
        dynamics: How the policy moves, or for each prompt how its policy does, ``[n]``.
    """
    each = [dynamics] if isinstance(dynamics, Dynamics) else dynamics
    if len(set(each)) == 1:
        vector = _vector(each[0])
    else:
        vector = np.stack([_vector(one) for one in each], axis=1)
    found = _Mixture(values, concentration, past, vector)
    return Fused(
        np.where(past.known, found.mean, values),
        np.where(past.known, found.size, concentration),
        found.evidence,
    )


def fit(
    values: FloatArray,
    concentration: FloatArray,
    past: Past,
    rewards: FloatArray,
    rollouts: FloatArray | IntArray,
    shared: Dynamics | None = None,
    *,
    shift: bool = True,
    spread: FloatArray | None = None,
) -> Dynamics:
    """Fit how a policy moves to outcomes whose prompts had a past.

    Maximises the beta-binomial likelihood of the outcomes plus the log density of a normal
    belief around ``shared``, on a scale where every number is allowed.

    Args:
        values: What was expected of each outcome without its prompt's past, ``[n]``.
        concentration: Of these values, ``[n]``, positive.
        past: What came before each; those without a past say nothing.
        rewards: The outcomes, ``[n]``, in [0, 1].
        rollouts: Attempts behind each, ``[n]``.
        shared: Where it is held, and what is returned for outcomes without a past; ``SHARED``
            by default.
        shift: Whether delta and beta are fitted; otherwise nothing is shifted.
        spread: Standard deviations of the belief, ``[5]``, in the order of ``Dynamics``: of
            log lambda, logit rho, log M, delta, log beta; ``SPREAD`` by default.
    """
    centre = _vector(shared or SHARED).copy()
    width = (SPREAD if spread is None else spread).copy()
    if not shift:
        centre[3:], width[3:] = 0.0, _TINY
    rows = np.flatnonzero(past.known)
    if not len(rows):
        return _dynamics(centre) if not shift else shared or SHARED
    chosen = past.of(rows)
    v, c = values[rows], concentration[rows]
    successes, failures = rewards[rows] * rollouts[rows], (1.0 - rewards[rows]) * rollouts[rows]

    def loss_and_gradient(vector: FloatArray) -> tuple[float, FloatArray]:
        found = _Mixture(v, c, chosen, vector)
        value, gradient = found.likelihood(successes, failures)
        held = (vector - centre) / width
        return float(0.5 * held @ held) - value, held / width - gradient

    bounds = list(zip(centre - 4.0 * width, centre + 4.0 * width, strict=True))
    options = {"maxiter": _ITERATIONS}
    found = minimize(
        loss_and_gradient, centre, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return _dynamics(found.x)


def likelihood(fused: Fused, rewards: FloatArray, rollouts: FloatArray | IntArray) -> FloatArray:
    """Log likelihood of outcomes under values, up to what no value changes, ``[n]``."""
    a, b = fused.concentration * fused.mean, fused.concentration * (1.0 - fused.mean)
    successes = rewards * rollouts
    found: FloatArray = betaln(a + successes, b + rollouts - successes) - betaln(a, b)
    return found


class _Mixture:
    """The module's formula at one vector of dynamics, and the gradient of its likelihood.

    For the formula alone each prompt may have its own, ``[5, n]``.
    """

    def __init__(self, v: FloatArray, c: FloatArray, past: Past, vector: FloatArray) -> None:
        self._past, self._c = past, c
        self._v = v.clip(_EDGE, 1.0 - _EDGE)
        weight, self._most, self._slope = np.exp(vector[[0, 2, 4]])
        self._decay, self._drift = expit(vector[1]), vector[3]
        most, decay = self._most, self._decay
        if vector.ndim == 2:
            most, decay = most[past.owner], decay[past.owner]
        counts = past.rollouts / (1.0 + past.rollouts / most)
        self._counts = counts * decay**past.ages
        self._kappa = np.maximum(weight * c, _LEAST)
        self._free = np.where(weight * c > _LEAST, self._kappa, 0.0)
        self.evidence, good = self._sums(self._counts)
        self._total = self._kappa + self.evidence
        self._share = self.evidence / self._total
        self._mixed = ((self._kappa * self._v + good) / self._total).clip(_EDGE, 1.0 - _EDGE)
        self._logit = logit(self._mixed)
        self._shift = self._drift + (self._slope - 1.0) * self._logit
        self.mean = expit(self._logit + self._share * self._shift).clip(_EDGE, 1.0 - _EDGE)
        self.size = (1.0 - self._share) * c + self.evidence

    def _sums(self, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Counts of each prompt's visits, and of their successes."""
        past = self._past
        every: FloatArray = np.bincount(past.owner, counts, past.prompts).astype(np.float64)
        good: FloatArray = np.bincount(past.owner, counts * past.rewards, past.prompts).astype(
            np.float64
        )
        return every, good

    def likelihood(self, successes: FloatArray, failures: FloatArray) -> tuple[float, FloatArray]:
        """Log likelihood of outcomes, up to a constant, and its gradient, ``[5]``."""
        a, b = self.size * self.mean, self.size * (1.0 - self.mean)
        value = (betaln(a + successes, b + failures) - betaln(a, b)).sum()
        both = psi(self.size) - psi(self.size + successes + failures)
        by_a, by_b = psi(a + successes) - psi(a) + both, psi(b + failures) - psi(b) + both
        by_size = self.mean * by_a + (1.0 - self.mean) * by_b
        by_logit = self.size * self.mean * (1.0 - self.mean) * (by_a - by_b)
        gradient = [
            (by_size * size + by_logit * mean).sum()
            for size, mean in (
                self._along(self._free, 0.0, 0.0),
                self._along(0.0, *self._sums(self._counts * self._past.ages * self._fading)),
                self._along(0.0, *self._sums(self._counts * self._filling)),
                (0.0, self._share),
                (0.0, self._share * self._slope * self._logit),
            )
        ]
        return float(value), np.array(gradient)

    @property
    def _fading(self) -> float:
        """Derivative of log rho by its logit."""
        return float(1.0 - self._decay)

    @property
    def _filling(self) -> FloatArray:
        """Derivative of the log of a count by log M, ``[k]``."""
        filling: FloatArray = self._past.rollouts / (self._most + self._past.rollouts)
        return filling

    def _along(
        self, kappa: FloatArray | float, evidence: FloatArray | float, good: FloatArray | float
    ) -> tuple[FloatArray, FloatArray]:
        """Derivatives of size and of the mean's logit, given those of what they are made of."""
        total = kappa + evidence
        mixed = (good + self._v * kappa - self._mixed * total) / self._total
        bent = mixed / (self._mixed * (1.0 - self._mixed))
        share = (evidence - self._share * total) / self._total
        size = evidence - self._c * share
        return size, bent * (1.0 + self._share * (self._slope - 1.0)) + share * self._shift


@lru_cache(_FITS)
def _vector(dynamics: Dynamics) -> FloatArray:
    """On a scale where every number is allowed; not to be written to."""
    return np.array(
        [
            np.log(dynamics.weight),
            logit(dynamics.decay),
            np.log(dynamics.most),
            dynamics.drift,
            np.log(dynamics.slope),
        ]
    )


def _dynamics(vector: FloatArray) -> Dynamics:
    return Dynamics(
        weight=float(np.exp(vector[0])),
        decay=float(expit(vector[1])),
        most=float(np.exp(vector[2])),
        drift=float(vector[3]),
        slope=float(np.exp(vector[4])),
    )


SHARED = Dynamics(weight=0.3, decay=0.75, most=10.0, drift=0.5, slope=1.03)
"""Of policies in training: chosen from the fits that ``vzero eval history`` prints."""

STILL = Dynamics(weight=0.3, decay=0.95, most=50.0, drift=0.0, slope=1.0)
"""Of policies without steps, which are taken not to change."""

SPREAD = np.array([1.2, 0.7, 1.9, 0.3, 0.1])
"""How far policies lie around them: of log lambda, logit rho, log M, delta, log beta."""
