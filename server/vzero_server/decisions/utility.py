"""What rollouts of a prompt are worth to a trainer that learns from groups of them.

With B rollouts of a prompt whose success rate is p, q = 1 - p, the paper's utility (Eq. 10, 48)
is the expected number of failures in a group that has at least one success,

    U(B, p) = B q (1 - q^(B-1)) = B (q - q^B),

convex in B below 2/|ln q| and concave above. If the success rate itself is only known as
Beta(a, b), the expectation has a closed form, since the moments of a Beta distribution are
quotients of Beta functions:

    E U(B, p) = B (E q - E q^B),    E q^B = B(a, b + B) / B(a, b) = prod_{j<B} (b+j)/(a+b+j).

The product is what is computed here: it stays exact where the logarithms of Beta functions
cancel.
"""

from enum import StrEnum

import numpy as np

from vzero_server.types import FloatArray

# A success rate at the very edge has no Beta distribution.
_EDGE = 1e-4


class Objective(StrEnum):
    """What an allocation maximises.

    ``PAPER`` and ``UTILITY`` are Eq. 10 at the mean of each value, by the paper's greedy
    algorithm and to the optimum. ``EXPECTED`` is the expectation of Eq. 10 under the value's
    Beta distribution, ``NONZERO_GRADIENT`` the expected number of prompts whose group has both
    a success and a failure, without which a group-relative advantage is zero.
    """

    PAPER = "paper"
    UTILITY = "utility"
    EXPECTED = "expected"
    NONZERO_GRADIENT = "nonzero_gradient"


def tables(
    objective: Objective, mean: FloatArray, effective_sample_size: FloatArray, most: int
) -> FloatArray:
    """What 0, 1, … ``most`` rollouts of each prompt are worth, ``[n, most + 1]``.

    Args:
        objective: The objective.
        mean: Values of the prompts, ``[n]``, in [0, 1].
        effective_sample_size: Sum of the parameters of each value's Beta distribution, ``[n]``,
            positive; not looked at by ``PAPER`` and ``UTILITY``.
        most: Most rollouts.

    Returns:
        Never decreasing along the rows; 0 for no rollout and for one.
    """
    if objective in (Objective.PAPER, Objective.UTILITY):
        return utility(mean, most)
    centre = np.clip(mean, _EDGE, 1.0 - _EDGE)
    a, b = effective_sample_size * centre, effective_sample_size * (1.0 - centre)
    if objective is Objective.EXPECTED:
        return expected_utility(a, b, most)
    return expected_nonzero_gradient(a, b, most)


def utility(p: FloatArray, most: int) -> FloatArray:
    """U(B, p) of Eq. 10 for B = 0, 1, … ``most``, ``[n, most + 1]``; p in [0, 1], ``[n]``."""
    return _utility(_powers(1.0 - p, most))


def expected_utility(a: FloatArray, b: FloatArray, most: int) -> FloatArray:
    """E U(B, p) for p ~ Beta(a, b) and B = 0, 1, … ``most``, ``[n, most + 1]``; a, b > 0."""
    return _utility(_moments(b, a, most))


def nonzero_gradient(p: FloatArray, most: int) -> FloatArray:
    """Probability 1 - p^B - q^B that B rollouts have both outcomes, ``[n, most + 1]``."""
    return _both(_powers(p, most), _powers(1.0 - p, most))


def expected_nonzero_gradient(a: FloatArray, b: FloatArray, most: int) -> FloatArray:
    """The same probability for p ~ Beta(a, b), ``[n, most + 1]``; a, b > 0, ``[n]``."""
    return _both(_moments(a, b, most), _moments(b, a, most))


def _utility(misses: FloatArray) -> FloatArray:
    """From E q^B, ``[n, most + 1]``, to B (E q - E q^B)."""
    rollouts = np.arange(misses.shape[1])
    worth: FloatArray = rollouts * (misses[:, 1:2] - misses)
    return worth


def _both(hits: FloatArray, misses: FloatArray) -> FloatArray:
    worth = 1.0 - hits - misses
    # A group of none or one has no advantage; the formula says -1 and a rounding error.
    worth[:, :2] = 0.0
    return worth


def _powers(base: FloatArray, most: int) -> FloatArray:
    """base^B for B = 0, 1, … ``most``, ``[n, most + 1]``; ``most`` at least 1."""
    factors = np.repeat(base[:, None], most + 1, axis=1)
    factors[:, 0] = 1.0
    powers: FloatArray = np.multiply.accumulate(factors, axis=1)
    return powers


def _moments(a: FloatArray, b: FloatArray, most: int) -> FloatArray:
    """E x^B for x ~ Beta(a, b) and B = 0, 1, … ``most``, ``[n, most + 1]``."""
    factors = np.empty((len(a), most + 1))
    factors[:, 0] = 1.0
    steps = np.arange(most)
    factors[:, 1:] = (a[:, None] + steps) / ((a + b)[:, None] + steps)
    moments: FloatArray = np.multiply.accumulate(factors, axis=1)
    return moments
