"""How far success rates lie from what is expected of them."""

import numpy as np

from vzero_server.types import FloatArray, IntArray

# Two prompts of one policy are about this alike (intra-class correlation of their
# success rates around a common mean), where the context cannot tell: one rollout each.
PRIOR_CORRELATION = 1 / 3
# The prior counts like this many rows whose correlation could be seen.
PRIOR_CORRELATION_WEIGHT = 8.0


def concentration(rewards: FloatArray, rollouts: IntArray, values: FloatArray) -> FloatArray:
    """Concentration κ of the success rates behind groups of rewards, around their values.

    Success rates spread as Beta(κv, κ(1-v)) give a reward averaged over n rollouts the
    variance v(1-v)·(1/n + (1-1/n)ρ) with ρ = 1/(κ+1). Solved for ρ by moments, with
    ``PRIOR_CORRELATION`` as the prior: rewards of one rollout say nothing about ρ, and
    those whose value is near 0 or 1 say little.

    Args:
        rewards: ``[m, k]``, in [0, 1].
        rollouts: Attempts behind each, ``[m, k]``.
        values: What was expected of each, in [0, 1]; ``[m, k]`` or ``[m, 1]``.

    Returns:
        κ, ``[m]``, in [0.05, 999].
    """
    unit = values * (1.0 - values)
    noise = 1.0 / rollouts
    # Each row counts as much as its variance can tell: 4v(1-v), at most 1.
    excess = 4.0 * (np.square(rewards - values) - unit * noise).sum(axis=1)
    seen = 4.0 * (unit * (1.0 - noise)).sum(axis=1)
    rho = (excess + PRIOR_CORRELATION_WEIGHT * PRIOR_CORRELATION) / (
        seen + PRIOR_CORRELATION_WEIGHT
    )
    return np.asarray(1.0 / np.clip(rho, 0.001, 0.95) - 1.0)
