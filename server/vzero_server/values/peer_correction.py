"""What other policies made of the same prompts: a correction of values, in closed form.

The head knows a prompt by its text alone. Where other policies of the server have tried the
very prompt, or the prompts of the context, their outcomes say how hard it is. Each prompt gets
a column

    d(x) = argmax_d  sum_b a_b log P(r_bx | logit(mu_b) + level + g(x) + d) - d^2 / (2 variance)

over the policies b that know it, P that of a success with this logit: how much easier it was
for them than the head says (g: its logit less the context's), zero for a prompt that nobody
knows. How much the column counts is read from the context: a regression of its
rewards on the leave-one-out column, with the leave-one-out values of the head as offset. It
counts nothing until the context, or the agreement of the others among themselves, gives
evidence for it, so that a population that is absent, unrelated or random changes no value.

Shapes: P other policies, N context rows, Q queries, K prompts. NaN where a policy does not know
a prompt. Never pass the judged policy or another checkpoint of its lineage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from vzero_server.types import FloatArray

# Variance of the difficulty of prompts, as a logit.
_VARIANCE = 1.0 / 0.6
# Correlation of two policies on one prompt where the context cannot tell, and the number of
# rows it counts for.
_CORRELATION, _CORRELATION_ROWS = 0.3, 30.0
# On average correlations at least this high are scaled to 1, lower ones count as they are less.
_LEAST_CORRELATION = 0.15
# Weight of the column before the context is read, if the others agree, and how it is held.
_WEIGHT, _HOLD = 0.8, 3.0
# Squares of the z-scores below which evidence counts for nothing (positive-part shrinkage).
_CONTEXT_NOISE, _AGREEMENT_NOISE = 4.0, 9.0
# A few Newton steps find the mode; none may be longer than this.
_STEPS, _LONGEST_STEP = 4, 2.0
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class PeerCorrection:
    """How other policies correct the values of one policy; a few numbers for each of them.

    Attributes:
        means: Mean reward of each, ``[P]``, inside (0, 1).
        similarity: How much each counts, ``[P]``, about 1 on average.
        level: Logit of how easy they found the context, less their means.
        offset: Logit of the context's mean reward.
        weight: How much the column counts; 0 leaves every value as it is.
        left_out: Leave-one-out logits of the context rows after correction, ``[N]``.
    """

    means: FloatArray
    similarity: FloatArray
    level: float
    offset: float
    weight: float
    left_out: FloatArray

    def correct(self, logits: FloatArray, rewards: FloatArray) -> FloatArray:
        """Logits of queries, ``[Q]``, given what the others earned on them, ``[P, Q]``."""
        return corrected([self], [logits], [rewards])[0]


def corrected(
    populations: Sequence[PeerCorrection],
    logits: Sequence[FloatArray],
    rewards: Sequence[FloatArray],
) -> list[FloatArray]:
    """Correct the queries of several populations, all of their columns at once.

    A ranking asks a hundred populations for one query each: what NumPy takes to be called
    would be nearly all of the time.

    Args:
        populations: Of P others each, which may differ.
        logits: Of the queries of each, ``[Q]``.
        rewards: What the others earned on them, ``[P, Q]``, NaN where unknown.
    """
    ends = np.cumsum([len(own) for own in logits]).tolist()
    most = max(len(population.means) for population in populations)
    means, similarity = np.full((most, ends[-1]), 0.5), np.zeros((most, ends[-1]))
    earned, guess = np.full((most, ends[-1]), np.nan), np.concatenate(logits)
    parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    for population, own, part in zip(populations, rewards, parts, strict=True):
        others = len(population.means)
        means[:others, part] = population.means[:, None]
        similarity[:others, part] = population.similarity[:, None]
        earned[:others, part] = own
        guess[part] += population.level - population.offset
    column = _column(earned, means, similarity, guess)
    return [
        given + population.weight * column[part]
        for given, population, part in zip(logits, populations, parts, strict=True)
    ]


def fit_peer_correction(
    left_out: FloatArray,
    offset: float,
    rewards: FloatArray,
    others: FloatArray,
    means: FloatArray,
    prior: float,
) -> PeerCorrection:
    """Read from the context how much the others say of this policy.

    Args:
        left_out: Leave-one-out logits of the context rows, ``[N]``: ``HeadState.loo_logits``.
        offset: Logit of the context's mean reward: ``HeadState.offset``.
        rewards: Rewards of the context rows, ``[N]``.
        others: What others earned on the same prompts, ``[P, N]``.
        means: Their mean rewards over all they did, ``[P]``; drawn inside (0, 1).
        prior: Weight without evidence from the context: ``agreement`` of these others.
    """
    mean = (rewards.sum() + 1.0) / (len(rewards) + 2.0)
    deviations = (rewards - mean) / np.sqrt(mean * (1.0 - mean))
    known = ~np.isnan(others)
    rows = known.sum(1)
    products = _centred(others, means) / np.sqrt(_variance(means))[:, None] * deviations
    total = products.sum(1)
    similarity = _similarity(total, rows, rows)
    # Of a context row the similarity is learned from all other rows.
    without = _similarity(total[:, None] - products, rows[:, None] - known, rows[:, None])
    guess = left_out - offset
    level = _level(others, means[:, None], without, guess)
    column = _column(others, means[:, None], without, level + guess)
    values = expit(left_out)
    evidence = float((values * (1.0 - values)) @ column**2)
    slope = float(column @ (rewards - values)) / max(evidence, _TINY)
    if slope > 0.0:
        slope *= _beyond_noise(slope * slope * evidence, _CONTEXT_NOISE)
    weight = max(0.0, (_HOLD * prior + evidence * slope) / (_HOLD + evidence))
    return PeerCorrection(means, similarity, level, offset, weight, left_out + weight * column)


def agreement(others: FloatArray, means: FloatArray) -> float:
    """How much policies that agree among themselves are trusted before the context is read.

    Args:
        others: What they earned on any prompts, ``[P, K]``; those that fewer than two of them
            know say nothing. Not the queries of a batch alone: values must not depend on
            what is asked with them.
        means: Their mean rewards, ``[P]``, inside (0, 1).

    Returns:
        Weight in [0, 0.8]: 0 where their outcomes on a prompt are as good as independent.
    """
    variance, known = _variance(means), ~np.isnan(others)
    residuals = _centred(others, means)
    pairs = float((residuals.sum(0) ** 2 - (residuals**2).sum(0)).sum())
    by_chance = 2.0 * float(((variance @ known) ** 2 - variance**2 @ known).sum())
    if pairs <= 0.0 or by_chance <= 0.0:
        return 0.0
    return _WEIGHT * _beyond_noise(pairs * pairs / by_chance, _AGREEMENT_NOISE)


def _column(
    rewards: FloatArray, means: FloatArray, similarity: FloatArray, guess: FloatArray
) -> FloatArray:
    """How much easier prompts are than guessed: mode of a Rasch model, ``[N]``."""
    votes = _Votes.of(rewards, means, similarity)
    shift = np.zeros_like(guess)
    for _ in range(_STEPS):
        sums, curvature = votes.at(guess + shift)
        step = (sums - shift / _VARIANCE) / (curvature + 1.0 / _VARIANCE)
        shift = shift + np.minimum(np.maximum(step, -_LONGEST_STEP), _LONGEST_STEP)
    return shift


def _level(
    rewards: FloatArray, means: FloatArray, similarity: FloatArray, guess: FloatArray
) -> float:
    """How much easier the others found the context than what else they did."""
    votes = _Votes.of(rewards, means, similarity)
    level = 0.0
    for _ in range(_STEPS):
        sums, curvature = votes.at(guess + level)
        step = (sums.sum() - level / _VARIANCE) / (curvature.sum() + 1.0 / _VARIANCE)
        level += float(np.clip(step, -_LONGEST_STEP, _LONGEST_STEP))
    return level


@dataclass(frozen=True, slots=True, eq=False)
class _Votes:
    """What others say of prompts, laid out for Newton steps: a ranking takes them by hundreds.

    Attributes:
        ability: Logit of the mean reward of each, ``[P, 1]`` or ``[P, N]``.
        rewards: What each earned, ``[P, N]``; 0 where it does not know a prompt.
        weights: How much each counts, ``[P, N]``; 0 where it does not know a prompt.
    """

    ability: FloatArray
    rewards: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, rewards: FloatArray, means: FloatArray, similarity: FloatArray) -> "_Votes":
        """From rewards ``[P, N]``, NaN where unknown; the others broadcast to their shape."""
        unknown = np.isnan(rewards)
        known = np.where(unknown, 0.0, rewards)
        return cls(logit(means), known, np.where(unknown, 0.0, similarity))

    def at(self, easiness: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Score and curvature of the easiness of each prompt, ``[N]``."""
        expected = expit(self.ability + easiness)
        weighted = self.weights * expected
        curvature = weighted * (1.0 - expected)
        return np.add.reduce(self.weights * self.rewards - weighted), np.add.reduce(curvature)


def _similarity(total: FloatArray, rows: FloatArray, size: FloatArray) -> FloatArray:
    """Correlations with this policy, drawn to a prior and scaled to at most 1 on average."""
    correlation = (total + _CORRELATION * _CORRELATION_ROWS) / (rows + _CORRELATION_ROWS)
    positive = np.maximum(correlation, 0.0)
    average = (positive * (size + 1.0)).sum(0) / (size + 1.0).sum(0)
    scaled: FloatArray = positive / np.maximum(average, _LEAST_CORRELATION)
    return scaled


def _centred(rewards: FloatArray, means: FloatArray) -> FloatArray:
    """Rewards less each policy's mean on these prompts; 0 where it does not know one."""
    known = ~np.isnan(rewards)
    residuals = np.where(known, rewards - means[:, None], 0.0)
    shift = residuals.sum(1) / np.maximum(known.sum(1), 1)
    return np.where(known, residuals - shift[:, None], 0.0)


def _variance(means: FloatArray) -> FloatArray:
    return means * (1.0 - means)


def _beyond_noise(square: float, noise: float) -> float:
    """Positive-part shrinkage: 0 for a squared z-score below ``noise``, near 1 far above."""
    return max(0.0, 1.0 - noise / max(square, _TINY))
