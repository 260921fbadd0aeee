"""Measures of the quality of values (section 5.4 of the paper)."""

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from vzero_server.types import FloatArray, IntArray

# An avg@n of at least this counts as a success.
SUCCESS = 0.5


def auc(rewards: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Compute the AUC within a context: the share of pairs whose success has the higher value.

    Args:
        rewards: Observed avg@n, ``[m]``, in [0, 1]; a success is at least ½.
        values: Estimates, ``[m]``. Equal ones count half.

    Returns:
        In [0, 1]; NaN if all or none are successes.
    """
    success = np.asarray(rewards) >= SUCCESS
    good, poor = int(success.sum()), int((~success).sum())
    if not good or not poor:
        return float("nan")
    ranks = rankdata(np.asarray(values, np.float64))
    return float((ranks[success].sum() - good * (good + 1) / 2) / (good * poor))


def weighted_auc(rewards: npt.ArrayLike, values: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """Compute the AUC of one context under many weightings of its queries.

    Args:
        rewards: As for ``auc``, ``[m]``.
        values: As for ``auc``, ``[m]``.
        weights: ``[r, m]``, not negative.

    Returns:
        ``[r]``; NaN where all or none of the weight is on successes.
    """
    values = np.asarray(values, np.float64)
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    success = (np.asarray(rewards) >= SUCCESS)[order]
    weights = weights[:, order]
    poor = np.where(success, 0.0, weights)
    below = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(poor, axis=1)], axis=1)
    first = np.searchsorted(ranked, ranked, side="left")
    last = np.searchsorted(ranked, ranked, side="right")
    credit = (below[:, first] + below[:, last]) / 2.0
    good = np.where(success, weights, 0.0)
    pairs = good.sum(1) * poor.sum(1)
    with np.errstate(invalid="ignore"):
        found: FloatArray = np.where(pairs > 0.0, (good * credit).sum(1) / pairs, np.nan)
    return found


def mse(rewards: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Calibration MSE: mean squared difference of values and observed avg@n."""
    return float(np.mean(np.square(np.asarray(rewards, np.float64) - np.asarray(values))))


def prompt_pairs(prompts: npt.ArrayLike, rewards: npt.ArrayLike) -> tuple[IntArray, IntArray]:
    """All pairs of rows of one prompt whose rewards differ.

    Rows of one prompt are outcomes under different checkpoints.

    Args:
        prompts: Which prompt a row is about, ``[m]``.
        rewards: Observed avg@n, ``[m]``.

    Returns:
        Indices of the two rows of every pair, both ``[pairs]``; every pair once.
    """
    prompts, rewards = np.asarray(prompts), np.asarray(rewards)
    order = np.argsort(prompts, kind="stable")
    ranked = prompts[order]
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for offset in range(1, len(order)):
        same = np.flatnonzero(ranked[offset:] == ranked[:-offset])
        if not len(same):
            break
        one, other = order[same], order[same + offset]
        differ = rewards[one] != rewards[other]
        left.append(one[differ])
        right.append(other[differ])
    return np.concatenate(left), np.concatenate(right)


def pair_credit(
    rewards: npt.ArrayLike, values: npt.ArrayLike, pairs: tuple[IntArray, IntArray]
) -> FloatArray:
    """Per pair: 1 if the values are in the order of the rewards, ½ if equal, else 0."""
    rewards, values = np.asarray(rewards, np.float64), np.asarray(values, np.float64)
    left, right = pairs
    agreement = np.sign(values[left] - values[right]) * np.sign(rewards[left] - rewards[right])
    credit: FloatArray = (agreement + 1.0) / 2.0
    return credit


def pairwise_accuracy(
    prompts: npt.ArrayLike, rewards: npt.ArrayLike, values: npt.ArrayLike
) -> float:
    """Pairwise calibration accuracy: the same prompt under two checkpoints, in the right order?

    Args:
        prompts: Which prompt a row is about, ``[m]``.
        rewards: Observed avg@n, ``[m]``; pairs with equal ones do not count.
        values: Estimates, ``[m]``. Equal ones count half.

    Returns:
        In [0, 1]; NaN without a pair.
    """
    pairs = prompt_pairs(prompts, rewards)
    return float(pair_credit(rewards, values, pairs).mean()) if len(pairs[0]) else float("nan")
