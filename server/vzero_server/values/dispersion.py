"""Dispersion: how far success rates lie from their estimates."""

import numpy as np

from vzero_server.types import FloatArray, IntArray

# Intra-class correlation of the success rates of a policy's prompts around a common mean, where
# the context cannot tell: with one rollout each.
PRIOR_CORRELATION = 1 / 3
# The prior counts like this many rows that show their correlation.
PRIOR_CORRELATION_WEIGHT = 8.0


def concentration(rewards: FloatArray, rollouts: IntArray, values: FloatArray) -> FloatArray:
    """Estimate the concentration κ of success rates around their values, for groups of rewards.

    Success rates spread as Beta(κv, κ(1-v)) give a reward averaged over n rollouts the
    variance v(1-v)·(1/n + (1-1/n)ρ) with ρ = 1/(κ+1). Solved for ρ by moments, with
    ``PRIOR_CORRELATION`` as the prior: rewards of one rollout carry no information on ρ, and
    rewards whose value is near 0 or 1 carry little.

    Args:
        rewards: ``[m, k]``, in [0, 1].
        rollouts: Attempts behind each, ``[m, k]``.
        values: Estimate of each, in [0, 1]; ``[m, k]`` or ``[m, 1]``.

    Returns:
        κ, ``[m]``, in [0.05, 999].
    """
    unit = values * (1.0 - values)
    noise = 1.0 / rollouts
    # Each row counts by the variance that its value allows: 4v(1-v), at most 1.
    excess = 4.0 * (np.square(rewards - values) - unit * noise).sum(axis=1)
    weight = 4.0 * (unit * (1.0 - noise)).sum(axis=1)
    rho = (excess + PRIOR_CORRELATION_WEIGHT * PRIOR_CORRELATION) / (
        weight + PRIOR_CORRELATION_WEIGHT
    )
    return np.asarray(1.0 / np.clip(rho, 0.001, 0.95) - 1.0)
