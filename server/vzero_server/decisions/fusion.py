"""Values that remember: an estimate and what became of the very prompt before.

A value v with concentration c (``effective_sample_size``) is a prior of the prompt's success
rate. Of the prompt's own past visits, one of
reward r over n rollouts, d visits ago, counts as

    w = rho^d n / (1 + n / M)

rollouts, so that older ones count less, and none for more than M. With kappa = lambda c, and s and
f the sums of w r and w (1 - r),

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

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln, expit, logit

from vzero_server.decisions.visits import Past

Array = npt.NDArray[np.float64]

# A success rate at the very edge has no logit.
_EDGE = 1e-4
# Steps of the differences behind gradients, and iterations of a fit.
_STEP, _ITERATIONS = 1e-4, 12
_TINY = 1e-9


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

    mean: Array
    concentration: Array
    evidence: Array


def fuse(values: Array, concentration: Array, past: Past, dynamics: Dynamics) -> Fused:
    """Combine values with what became of the same prompts before.

    Args:
        values: v, ``[n]``, in [0, 1]; they must not rest on the outcomes of ``past``.
        concentration: c, ``[n]``, positive.
        past: Visits of these prompts.
        dynamics: How the policy moves.
    """
    mean, size, evidence = _fused(values, concentration, past, _vector(dynamics)[None])
    known = past.known
    return Fused(
        np.where(known, mean[0], values),
        np.where(known, size[0], concentration),
        np.where(known, evidence[0], 0.0),
    )


def fit(
    values: Array,
    concentration: Array,
    past: Past,
    rewards: Array,
    rollouts: Array,
    shared: Dynamics | None = None,
    *,
    shift: bool = True,
    spread: Array | None = None,
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
    centre = _vector(shared or SHARED)
    width = (SPREAD if spread is None else spread).copy()
    if not shift:
        centre[3:], width[3:] = 0.0, _TINY
    rows = np.flatnonzero(past.known)
    if not len(rows):
        return _dynamics(centre) if not shift else shared or SHARED
    chosen = past.of(rows)
    v, c = values[rows], concentration[rows]
    successes, failures = rewards[rows] * rollouts[rows], (1.0 - rewards[rows]) * rollouts[rows]

    def loss(vectors: Array) -> Array:
        mean, size, _ = _fused(v, c, chosen, vectors)
        a, b = size * mean, size * (1.0 - mean)
        likelihood = betaln(a + successes, b + failures) - betaln(a, b)
        held: Array = 0.5 * np.square((vectors - centre) / width).sum(1)
        total: Array = held - likelihood.sum(1)
        return total

    def loss_and_gradient(vector: Array) -> tuple[float, Array]:
        around = loss(vector + _STEP * np.concatenate([np.zeros((1, 5)), np.eye(5), -np.eye(5)]))
        gradient: Array = (around[1:6] - around[6:]) / (2.0 * _STEP)
        return float(around[0]), gradient

    bounds = list(zip(centre - 4.0 * width, centre + 4.0 * width, strict=True))
    options = {"maxiter": _ITERATIONS}
    found = minimize(
        loss_and_gradient, centre, jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    return _dynamics(found.x)


def likelihood(fused: Fused, rewards: Array, rollouts: Array) -> Array:
    """Log likelihood of outcomes under values, up to what no value changes, ``[n]``."""
    a, b = fused.concentration * fused.mean, fused.concentration * (1.0 - fused.mean)
    successes = rewards * rollouts
    found: Array = betaln(a + successes, b + rollouts - successes) - betaln(a, b)
    return found


def _fused(v: Array, c: Array, past: Past, vectors: Array) -> tuple[Array, Array, Array]:
    """Mean, concentration and evidence under several dynamics: ``[B, 5]`` to ``[B, n]``."""
    weight, most, slope = np.exp(vectors[:, (0, 2, 4)]).T[:, :, None]
    counts = past.rollouts / (1.0 + past.rollouts / most)
    counts = counts * np.exp(-np.logaddexp(0.0, -vectors[:, 1:2]) * past.ages)
    good, evidence = np.empty((2, len(vectors), past.prompts))
    for row, (mine, count) in enumerate(zip(counts * past.rewards, counts, strict=True)):
        good[row] = np.bincount(past.owner, mine, past.prompts)
        evidence[row] = np.bincount(past.owner, count, past.prompts)
    kappa = weight * c
    total = kappa + evidence
    share = evidence / total
    mixed = logit(((kappa * v.clip(_EDGE, 1.0 - _EDGE) + good) / total).clip(_EDGE, 1.0 - _EDGE))
    mean = expit(mixed + share * (vectors[:, 3:4] + (slope - 1.0) * mixed))
    return mean.clip(_EDGE, 1.0 - _EDGE), (1.0 - share) * c + evidence, evidence


def _vector(dynamics: Dynamics) -> Array:
    """On a scale where every number is allowed."""
    return np.array(
        [
            np.log(dynamics.weight),
            logit(dynamics.decay),
            np.log(dynamics.most),
            dynamics.drift,
            np.log(dynamics.slope),
        ]
    )


def _dynamics(vector: Array) -> Dynamics:
    return Dynamics(
        weight=float(np.exp(vector[0])),
        decay=float(expit(vector[1])),
        most=float(np.exp(vector[2])),
        drift=float(vector[3]),
        slope=float(np.exp(vector[4])),
    )


SHARED = Dynamics(weight=0.3, decay=0.75, most=10.0, drift=0.5, slope=1.03)
"""Fitted to many policies; printed by ``vzero eval history``."""

SPREAD = np.array([1.2, 0.7, 1.9, 0.3, 0.1])
"""How far policies lie around it: of log lambda, logit rho, log M, delta, log beta."""
