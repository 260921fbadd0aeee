"""Utility of a number of rollouts to a trainer that learns from groups of them.

With B rollouts of a prompt whose success rate is p, q = 1 - p, the paper's utility (Eq. 10, 48)
is the expected number of failures in a group that has at least one success,

    U(B, p) = B q (1 - q^(B-1)) = B (q - q^B),

convex in B below 2/|ln q| and concave above. If the success rate itself is only known as
Beta(a, b), the expectation has a closed form, since the moments of a Beta distribution are
quotients of Beta functions:

    E U(B, p) = B (E q - E q^B),    E q^B = B(a, b + B) / B(a, b) = prod_{j<B} (b+j)/(a+b+j).

The product is computed here: it stays exact where the logarithms of Beta functions cancel.
"""

from enum import StrEnum

import numpy as np

from vzero_server.types import FloatArray, IntArray
from vzero_server.values.beta import inside


class Objective(StrEnum):
    """Objective that an allocation maximises.

    ``PAPER`` and ``UTILITY`` are Eq. 10 at the mean of each value, the former maximised by the
    paper's greedy algorithm, the latter to the optimum. ``EXPECTED`` is the expectation of Eq. 10
    under the value's Beta distribution. ``NONZERO_GRADIENT`` is the expected number of prompts
    whose group has both a success and a failure; without both, a group-relative advantage is zero.
    """

    PAPER = "paper"
    UTILITY = "utility"
    EXPECTED = "expected"
    NONZERO_GRADIENT = "nonzero_gradient"


def utility_table(
    objective: Objective, mean: FloatArray, effective_sample_size: FloatArray, max_count: int
) -> FloatArray:
    """Utility of 0, 1, … ``max_count`` rollouts of each prompt, ``[n, max_count + 1]``.

    Args:
        objective: The objective.
        mean: Values of the prompts, ``[n]``, in [0, 1].
        effective_sample_size: Sum of the parameters of each value's Beta distribution, ``[n]``,
            positive; ignored by ``PAPER`` and ``UTILITY``.
        max_count: Rollouts of the last column, at least 1.

    Returns:
        Utilities that never decrease along a row; 0 for no rollout and for one.
    """
    if objective in (Objective.PAPER, Objective.UTILITY):
        return utility(mean, max_count)
    centre = inside(mean)
    a, b = effective_sample_size * centre, effective_sample_size * (1.0 - centre)
    if objective is Objective.EXPECTED:
        return expected_utility(a, b, max_count)
    return expected_nonzero_gradient(a, b, max_count)


def total_utility(utilities: FloatArray, columns: IntArray) -> float:
    """Sum of one entry per row: ``utilities[i, columns[i]]`` over ``[n, k]`` and ``[n]``."""
    return float(utilities[np.arange(len(columns)), columns].sum())


def utility(p: FloatArray, max_count: int) -> FloatArray:
    """U(B, p) of Eq. 10 for B = 0, 1, … ``max_count``, ``[n, max_count + 1]``; p in [0, 1]."""
    return _utility(_powers(1.0 - p, max_count))


def expected_utility(a: FloatArray, b: FloatArray, max_count: int) -> FloatArray:
    """E U(B, p) for p ~ Beta(a, b), B = 0, … ``max_count``, ``[n, max_count + 1]``; a, b > 0."""
    return _utility(_moments(b, a, max_count))


def expected_nonzero_gradient(a: FloatArray, b: FloatArray, max_count: int) -> FloatArray:
    """Probability that B rollouts have both outcomes, for B = 0, 1, … ``max_count``.

    This is 1 - E p^B - E q^B for p ~ Beta(a, b), ``[n, max_count + 1]``; a, b > 0, ``[n]``.
    """
    probability = 1.0 - _moments(a, b, max_count) - _moments(b, a, max_count)
    # A group of no or one rollout has no advantage; the formula gives -1 and a rounding error.
    probability[:, :2] = 0.0
    return probability


def _utility(failure_powers: FloatArray) -> FloatArray:
    """B (E q - E q^B) from E q^B, ``[n, max_count + 1]``."""
    rollouts = np.arange(failure_powers.shape[1])
    utilities: FloatArray = rollouts * (failure_powers[:, 1:2] - failure_powers)
    return utilities


def _powers(base: FloatArray, max_count: int) -> FloatArray:
    """base^B for B = 0, 1, … ``max_count``, ``[n, max_count + 1]``; ``max_count`` at least 1."""
    factors = np.repeat(base[:, None], max_count + 1, axis=1)
    factors[:, 0] = 1.0
    powers: FloatArray = np.multiply.accumulate(factors, axis=1)
    return powers


def _moments(a: FloatArray, b: FloatArray, max_count: int) -> FloatArray:
    """E x^B for x ~ Beta(a, b) and B = 0, 1, … ``max_count``, ``[n, max_count + 1]``."""
    factors = np.empty((len(a), max_count + 1))
    factors[:, 0] = 1.0
    steps = np.arange(max_count)
    factors[:, 1:] = (a[:, None] + steps) / ((a + b)[:, None] + steps)
    moments: FloatArray = np.multiply.accumulate(factors, axis=1)
    return moments
