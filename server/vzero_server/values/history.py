"""Combines values with the history of their prompts under the same policy.

A value v with concentration c (``effective_sample_size``) serves as the prior of the prompt's
success rate. A past visit of the prompt with reward r over n rollouts, d visits ago, counts as

    w = rho^d n / (1 + n / M)

rollouts: older visits count less, and no visit counts for more than M. With
kappa = max(lambda c, 1/4), and s and f the sums of w r and w (1 - r),

    m = (kappa v + s) / (kappa + s + f)        share  g = (s + f) / (kappa + s + f)
    logit p = logit m + g (delta + (beta - 1) logit m)

and the success rate is distributed as Beta(C p, C (1 - p)) with C = (1 - g) c + s + f. delta is
the drift of the policy's logit until a prompt comes back; beta corrects that averages over past
checkpoints lie too close to 1/2. Without history (g = 0) the value stays as it is.

lambda, rho, M, delta and beta are fitted to each policy by beta-binomial likelihood, regularised
towards a fit shared by all policies (``SHARED``), which is used as it is where no prompt repeats.

Shapes: n prompts, k past visits of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, expit, logit, psi

from vzero_server.types import FloatArray, IntArray
from vzero_server.values.beta import inside
from vzero_server.values.visits import Visits

# A value counts for at least this many rollouts: with less, one visit without a failure would
# leave no doubt.
_LEAST_KAPPA = 0.25
# Iterations of a fit.
_ITERATIONS = 12
_TINY = 1e-9
# Dynamics whose vectors are cached.
_CACHED_VECTORS = 4096


@dataclass(frozen=True, slots=True)
class Dynamics:
    """How the success rates of one policy move between visits of a prompt.

    Attributes:
        weight: lambda: how much a value counts beside history, relative to its
            concentration; positive.
        decay: rho: share of a visit's count that is left at the next visit, in (0, 1).
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
class Combined:
    """Values after history.

    Attributes:
        mean: Expected success rates, ``[n]``, in [0, 1].
        concentration: C, ``[n]``: rollouts of the very prompt that each is worth; positive.
        weight: The rollouts among them that come from history, ``[n]``; 0 without history.
    """

    mean: FloatArray
    concentration: FloatArray
    weight: FloatArray


def combine(
    values: FloatArray,
    concentration: FloatArray,
    visits: Visits,
    dynamics: Dynamics | Sequence[Dynamics],
) -> Combined:
    """Combine values with the past visits of their prompts.

    Args:
        values: v, ``[n]``, in [0, 1]; they must not rest on the outcomes of ``visits``.
        concentration: c, ``[n]``, positive.
        visits: Past visits of these prompts.
        dynamics: Of the policy; or of the policy of each prompt, ``[n]``.
    """
    by_prompt = [dynamics] if isinstance(dynamics, Dynamics) else dynamics
    if len(set(by_prompt)) == 1:
        vector = _vector(by_prompt[0])
    else:
        vector = np.stack([_vector(dynamics) for dynamics in by_prompt], axis=1)
    mixture = _Mixture(values, concentration, visits, vector)
    return Combined(
        np.where(visits.present, mixture.mean, values),
        np.where(visits.present, mixture.size, concentration),
        mixture.weight,
    )


def fit(
    values: FloatArray,
    concentration: FloatArray,
    visits: Visits,
    rewards: FloatArray,
    rollouts: FloatArray | IntArray,
    shared: Dynamics | None = None,
    *,
    shift: bool = True,
    deviations: FloatArray | None = None,
) -> Dynamics:
    """Fit the dynamics of a policy to outcomes on prompts that it had visited before.

    Maximises the beta-binomial likelihood of the outcomes plus the log density of a normal
    prior around ``shared``, on an unconstrained scale.

    Args:
        values: Estimates for each outcome without the history of its prompt, ``[n]``.
        concentration: Of these values, ``[n]``, positive.
        visits: Visits before each outcome; outcomes without any are ignored.
        rewards: The outcomes, ``[n]``, in [0, 1].
        rollouts: Attempts behind each, ``[n]``.
        shared: Centre of the prior, and the result if no outcome had a visit before; ``SHARED``
            by default.
        shift: Whether delta and beta are fitted; otherwise nothing is shifted.
        deviations: Standard deviations of the prior, ``[5]``, in the order of ``Dynamics``: of
            log lambda, logit rho, log M, delta, log beta; ``DEVIATIONS`` by default.
    """
    centre = _vector(shared or SHARED).copy()
    width = (DEVIATIONS if deviations is None else deviations).copy()
    if not shift:
        centre[3:], width[3:] = 0.0, _TINY
    rows = np.flatnonzero(visits.present)
    if not len(rows):
        return _dynamics(centre) if not shift else shared or SHARED
    chosen = visits.of(rows)
    v, c = values[rows], concentration[rows]
    successes, failures = rewards[rows] * rollouts[rows], (1.0 - rewards[rows]) * rollouts[rows]

    def loss_and_gradient(vector: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = _Mixture(v, c, chosen, vector).likelihood(successes, failures)
        scaled = (vector - centre) / width
        return float(0.5 * scaled @ scaled) - value, scaled / width - gradient

    bounds = list(zip(centre - 4.0 * width, centre + 4.0 * width, strict=True))
    options = {"maxiter": _ITERATIONS}
    fit_result = minimize(
        loss_and_gradient, centre, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return _dynamics(fit_result.x)


def log_likelihood(
    combined: Combined, rewards: FloatArray, rollouts: FloatArray | IntArray
) -> FloatArray:
    """Return the log likelihood of outcomes under values, up to a constant, ``[n]``."""
    a, b = combined.concentration * combined.mean, combined.concentration * (1.0 - combined.mean)
    successes = rewards * rollouts
    terms: FloatArray = betaln(a + successes, b + rollouts - successes) - betaln(a, b)
    return terms


class _Mixture:
    """The module's formula at one vector of dynamics, and the gradient of its likelihood.

    Without the gradient, each prompt may have a vector of its own, ``[5, n]``.
    """

    def __init__(self, v: FloatArray, c: FloatArray, visits: Visits, vector: FloatArray) -> None:
        self._visits, self._c = visits, c
        self._v = inside(v)
        weight, self._most, self._slope = np.exp(vector[[0, 2, 4]])
        self._decay, self._drift = expit(vector[1]), vector[3]
        most, decay = self._most, self._decay
        if vector.ndim == 2:
            most, decay = most[visits.owner], decay[visits.owner]
        counts = visits.rollouts / (1.0 + visits.rollouts / most)
        self._counts = counts * decay**visits.ages
        self._kappa = np.maximum(weight * c, _LEAST_KAPPA)
        self._free = np.where(weight * c > _LEAST_KAPPA, self._kappa, 0.0)
        self.weight, successes = self._sums(self._counts)
        self._total = self._kappa + self.weight
        self._share = self.weight / self._total
        self._mixed = inside((self._kappa * self._v + successes) / self._total)
        self._logit = logit(self._mixed)
        self._shift = self._drift + (self._slope - 1.0) * self._logit
        self.mean = inside(expit(self._logit + self._share * self._shift))
        self.size = (1.0 - self._share) * c + self.weight

    def _sums(self, counts: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Counts of each prompt's visits, and of their successes."""
        owner, prompts = self._visits.owner, self._visits.prompts
        totals: FloatArray = np.bincount(owner, counts, prompts).astype(np.float64)
        successes = np.bincount(owner, counts * self._visits.rewards, prompts)
        return totals, successes.astype(np.float64)

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
                self._along(
                    0.0, *self._sums(self._counts * self._visits.ages * self._decay_gradient)
                ),
                self._along(0.0, *self._sums(self._counts * self._most_gradient)),
                (0.0, self._share),
                (0.0, self._share * self._slope * self._logit),
            )
        ]
        return float(value), np.array(gradient)

    @property
    def _decay_gradient(self) -> float:
        """Derivative of log rho by its logit."""
        return float(1.0 - self._decay)

    @property
    def _most_gradient(self) -> FloatArray:
        """Derivative of the log of a count by log M, ``[k]``."""
        gradient: FloatArray = self._visits.rollouts / (self._most + self._visits.rollouts)
        return gradient

    def _along(
        self, kappa: FloatArray | float, weight: FloatArray | float, successes: FloatArray | float
    ) -> tuple[FloatArray, FloatArray]:
        """Derivatives of size and of the mean's logit, given the derivatives of their parts."""
        total = kappa + weight
        mixed = (successes + self._v * kappa - self._mixed * total) / self._total
        mixed_logit = mixed / (self._mixed * (1.0 - self._mixed))
        share = (weight - self._share * total) / self._total
        size = weight - self._c * share
        return size, mixed_logit * (1.0 + self._share * (self._slope - 1.0)) + share * self._shift


@lru_cache(_CACHED_VECTORS)
def _vector(dynamics: Dynamics) -> FloatArray:
    """On an unconstrained scale; shared between callers, who must not write to it."""
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
"""Dynamics of policies in training, chosen from the fits that ``vzero eval history`` prints."""

STILL = Dynamics(weight=0.3, decay=0.95, most=50.0, drift=0.0, slope=1.0)
"""Dynamics of policies without steps, which are assumed not to change."""

DEVIATIONS = np.array([1.2, 0.7, 1.9, 0.3, 0.1])
"""Standard deviations of policies around them: log lambda, logit rho, log M, delta, log beta."""
