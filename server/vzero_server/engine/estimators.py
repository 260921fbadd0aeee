"""What computes values from a context window."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from vzero_server.contexts.window import ContextWindow
from vzero_server.engine.value import Array, Basis, Values, beta_values

# Two prompts of one policy are about this alike (intra-class correlation of their
# success rates around a common mean), where the context cannot tell: one rollout each.
PRIOR_CORRELATION = 1 / 3
# The prior counts like this many neighbours whose correlation could be seen.
PRIOR_CORRELATION_WEIGHT = 8.0


class Estimator(Protocol):
    """Computes values of prompts from one context window, on a worker thread."""

    def estimate(self, window: ContextWindow, queries: npt.NDArray[np.float32]) -> Values:
        """Values of prompts.

        Args:
            window: What is known of the policy; not empty.
            queries: Embeddings of the prompts, ``[m, d]``.
        """


class NearestNeighbours:
    """Mean reward of the k nearest prompts of the context (Eq. 52), the paper's baseline.

    The interval is that of the prompt's own success rate, not of the mean: neighbours
    that disagree make it wide, however many they are.
    """

    def __init__(self, k: int = 64) -> None:
        self._k = k

    def estimate(self, window: ContextWindow, queries: npt.NDArray[np.float32]) -> Values:
        """See ``Estimator``."""
        positions = window.nearest(queries, min(self._k, len(window)))
        rewards = window.rewards[positions].astype(np.float64)
        centre = (rewards.sum(axis=1) + 0.5) / (rewards.shape[1] + 1.0)
        kappa = concentration(rewards, window.rollouts[positions])
        return beta_values(rewards.mean(axis=1), centre, kappa, Basis.KNN)


class Prior:
    """For a context too small to tell prompts apart: its mean, drawn towards ½."""

    def estimate(self, window: ContextWindow, queries: npt.NDArray[np.float32]) -> Values:
        """See ``Estimator``; the window may be empty."""
        mean = (float(window.rewards.sum()) + 1.0) / (len(window) + 2.0)
        means = np.full(len(queries), mean)
        return beta_values(means, means, np.full(len(queries), 2.0), Basis.PRIOR)


def concentration(rewards: Array, rollouts: npt.NDArray[np.int64]) -> Array:
    """Concentration κ of the success rates behind groups of rewards.

    Success rates spread as Beta(κm, κ(1-m)) give a reward averaged over n rollouts the
    variance m(1-m)·(1/n + (1-1/n)ρ) with ρ = 1/(κ+1). Solved for ρ by moments, with
    ``PRIOR_CORRELATION`` as the prior: rewards of one rollout say nothing about ρ, and
    those around a mean near 0 or 1 say little.

    Args:
        rewards: ``[m, k]``, in [0, 1].
        rollouts: Attempts behind each, ``[m, k]``.

    Returns:
        κ, ``[m]``, in [0.05, 999].
    """
    mean = rewards.mean(axis=1)
    unit = mean * (1.0 - mean)
    noise = (1.0 / rollouts).mean(axis=1)
    # Each neighbour counts as much as its variance can tell: 4m(1-m), at most 1.
    weight = 4.0 * rewards.shape[1]
    excess = weight * (rewards.var(axis=1) - unit * noise)
    seen = weight * unit * (1.0 - noise)
    rho = (excess + PRIOR_CORRELATION_WEIGHT * PRIOR_CORRELATION) / (
        seen + PRIOR_CORRELATION_WEIGHT
    )
    return np.asarray(1.0 / np.clip(rho, 0.001, 0.95) - 1.0)
