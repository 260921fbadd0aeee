"""Peer correction: other policies' rewards on the same prompts correct values, in closed form.

An estimator knows a prompt by its text alone. Where other policies of the server, the peers, tried
the very prompt, or the prompts of the context, their rewards tell how hard it is. Each prompt gets
an easiness

    d(x) = argmax_d  sum_b a_b log P(r_bx | logit(mu_b) + level + g(x) + d) - d^2 / (2 variance)

summed over the peers b that know it, where P is the probability of a success with this logit and
g(x) the estimator's logit less that of the context's level: how much easier the peers found the
prompt than the estimator expects. It is zero for a prompt that no peer knows. Its weight is read
from the context: a regression of the context's rewards on the leave-one-out easiness, with the
leave-one-out logits of the estimator as offset. The weight is zero until the context, or the
agreement of the peers among themselves, gives evidence for it, so that absent, unrelated or random
peers change no value.

Shapes: P peers, N context rows, Q queries, K prompts. NaN where a peer does not know a prompt.
Never pass the policy itself or another checkpoint of its lineage as a peer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit, logit

from vzero_server.types import FloatArray, IntArray
from vzero_server.values.dispersion import concentration
from vzero_server.values.evidence import ContextEvidence

# Variance of the easiness of prompts, as a logit.
_VARIANCE = 1.0 / 0.6
# Correlation of two policies on one prompt where the context cannot tell, and the number of
# rows it counts for.
_PRIOR_CORRELATION, _PRIOR_ROWS = 0.3, 30.0
# Mean correlations at least this high are scaled to 1; lower ones count as less.
_LEAST_CORRELATION = 0.15
# Weight before the context is read, if the peers agree, and its regularisation.
_PRIOR_WEIGHT, _REGULARISATION = 0.8, 3.0
# Squared z-scores below which evidence counts for nothing (positive-part shrinkage).
_CONTEXT_NOISE, _AGREEMENT_NOISE = 4.0, 9.0
# A few Newton steps find the mode; none may be longer than this.
_STEPS, _LONGEST_STEP = 4, 2.0
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class PeerCorrection:
    """How peers correct the values of one context; a few numbers for each of them.

    Attributes:
        means: Mean reward of each peer, ``[P]``, inside (0, 1).
        similarity: How much each counts, ``[P]``, about 1 on average.
        level: Logit of how easy they found the context, less their means.
        offset: Logit of the policy's level.
        weight: How much the easiness counts; 0 leaves every value as it is.
        loo_logits: Leave-one-out logits of the context rows after correction, ``[N]``.
        kappa: Concentration of success rates around corrected values, positive.
    """

    means: FloatArray
    similarity: FloatArray
    level: float
    offset: float
    weight: float
    loo_logits: FloatArray
    kappa: float = 1.0

    def correct(self, query_logits: FloatArray, peer_rewards: FloatArray) -> FloatArray:
        """Correct the logits of queries, ``[Q]``, by the peers' rewards on them, ``[P, Q]``."""
        return correct([self], [query_logits], [peer_rewards])[0]


def correct(
    corrections: Sequence[PeerCorrection],
    query_logits: Sequence[FloatArray],
    peer_rewards: Sequence[FloatArray],
) -> list[FloatArray]:
    """Correct the queries of several contexts at once.

    A ranking corrects one query under each of a hundred contexts: one by one, nearly all of the
    time would be the overhead of calling NumPy.

    Args:
        corrections: Of contexts with P peers each; P may differ.
        query_logits: Of the queries of each context, ``[Q]``.
        peer_rewards: Of the peers on these queries, ``[P, Q]``, NaN where unknown.
    """
    ends = np.cumsum([len(logits) for logits in query_logits]).tolist()
    most_peers = max(len(correction.means) for correction in corrections)
    means, similarity = np.full((most_peers, ends[-1]), 0.5), np.zeros((most_peers, ends[-1]))
    rewards, guess = np.full((most_peers, ends[-1]), np.nan), np.concatenate(query_logits)
    parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    for correction, part_rewards, part in zip(corrections, peer_rewards, parts, strict=True):
        peers = len(correction.means)
        means[:peers, part] = correction.means[:, None]
        similarity[:peers, part] = correction.similarity[:, None]
        rewards[:peers, part] = part_rewards
        guess[part] += correction.level - correction.offset
    easiness = _easiness(rewards, means, similarity, guess)
    return [
        logits + correction.weight * easiness[part]
        for logits, correction, part in zip(query_logits, corrections, parts, strict=True)
    ]


def fit_to_context(
    evidence: ContextEvidence, peer_rewards: FloatArray, peer_means: FloatArray
) -> PeerCorrection | None:
    """Fit how peers correct the values of a context; None if they change nothing.

    Args:
        evidence: What the estimator knows of the context rows.
        peer_rewards: Of the peers on the prompts of these rows, ``[P, N]``, NaN where unknown.
        peer_means: Mean rewards of the peers over all their outcomes, ``[P]``, inside (0, 1).
    """
    correction = fit_peer_correction(
        evidence.loo_logits,
        evidence.offset - evidence.drift,
        evidence.rewards,
        peer_rewards,
        peer_means,
        agreement(peer_rewards, peer_means),
    )
    if correction.weight == 0.0:
        return None
    kappa = evidence.kappa
    if evidence.kappa_fitted:
        rows = np.flatnonzero(~np.isnan(peer_rewards).all(axis=0))
        kappa = _kappa(evidence, correction.loo_logits, rows)
    # Queries ask for the policy as it is now. How far it has come since the context does not make
    # a prompt easier for its peers.
    return replace(correction, offset=evidence.offset, kappa=kappa)


def fit_peer_correction(
    loo_logits: FloatArray,
    offset: float,
    rewards: FloatArray,
    peer_rewards: FloatArray,
    peer_means: FloatArray,
    prior_weight: float,
) -> PeerCorrection:
    """Fit the weight and the similarities of peers to the rows of a context.

    Args:
        loo_logits: Leave-one-out logits of the context rows, ``[N]``.
        offset: Logit of the context's mean reward.
        rewards: Rewards of the context rows, ``[N]``.
        peer_rewards: Rewards of the peers on the same prompts, ``[P, N]``.
        peer_means: Their mean rewards over all their outcomes, ``[P]``, inside (0, 1).
        prior_weight: Weight without evidence from the context: ``agreement`` of these peers.
    """
    mean = (rewards.sum() + 1.0) / (len(rewards) + 2.0)
    deviations = (rewards - mean) / np.sqrt(mean * (1.0 - mean))
    known = ~np.isnan(peer_rewards)
    row_counts = known.sum(1)
    scale = np.sqrt(_variance(peer_means))[:, None]
    products = _centred(peer_rewards, peer_means) / scale * deviations
    totals = products.sum(1)
    similarity = _similarity(totals, row_counts, row_counts)
    # The similarity that a context row is corrected with is learned from all other rows.
    loo_similarity = _similarity(
        totals[:, None] - products, row_counts[:, None] - known, row_counts[:, None]
    )
    guess = loo_logits - offset
    level = _level(peer_rewards, peer_means[:, None], loo_similarity, guess)
    easiness = _easiness(peer_rewards, peer_means[:, None], loo_similarity, level + guess)
    values = expit(loo_logits)
    evidence = float((values * (1.0 - values)) @ easiness**2)
    slope = float(easiness @ (rewards - values)) / max(evidence, _TINY)
    if slope > 0.0:
        slope *= _beyond_noise(slope * slope * evidence, _CONTEXT_NOISE)
    weight = (_REGULARISATION * prior_weight + evidence * slope) / (_REGULARISATION + evidence)
    weight = max(0.0, weight)
    return PeerCorrection(
        peer_means, similarity, level, offset, weight, loo_logits + weight * easiness
    )


def agreement(peer_rewards: FloatArray, peer_means: FloatArray) -> float:
    """Return how much peers that agree among themselves are trusted before the context is read.

    Args:
        peer_rewards: Of the peers on any prompts, ``[P, K]``; prompts that fewer than two of them
            know are ignored. Do not pass the queries of a call alone: values must not depend on
            the other prompts of a call.
        peer_means: Their mean rewards, ``[P]``, inside (0, 1).

    Returns:
        Weight in [0, 0.8]: 0 if their rewards on a prompt are as good as independent.
    """
    variance, known = _variance(peer_means), ~np.isnan(peer_rewards)
    residuals = _centred(peer_rewards, peer_means)
    pairs = float((residuals.sum(0) ** 2 - (residuals**2).sum(0)).sum())
    by_chance = 2.0 * float(((variance @ known) ** 2 - variance**2 @ known).sum())
    if pairs <= 0.0 or by_chance <= 0.0:
        return 0.0
    return _PRIOR_WEIGHT * _beyond_noise(pairs * pairs / by_chance, _AGREEMENT_NOISE)


def _kappa(evidence: ContextEvidence, loo_logits: FloatArray, rows: IntArray) -> float:
    """Concentration around corrected values, of the rows that peers know."""
    kappa = concentration(
        evidence.rewards[None, rows], evidence.rollouts[None, rows], expit(loo_logits)[None, rows]
    )
    return float(kappa[0])


def _easiness(
    rewards: FloatArray, means: FloatArray, similarity: FloatArray, guess: FloatArray
) -> FloatArray:
    """How much easier prompts are than guessed: mode of a Rasch model, ``[N]``."""
    votes = _Votes.of(rewards, means, similarity)
    shift = np.zeros_like(guess)
    for _ in range(_STEPS):
        score, curvature = votes.at(guess + shift)
        step = (score - shift / _VARIANCE) / (curvature + 1.0 / _VARIANCE)
        shift = shift + np.minimum(np.maximum(step, -_LONGEST_STEP), _LONGEST_STEP)
    return shift


def _level(
    rewards: FloatArray, means: FloatArray, similarity: FloatArray, guess: FloatArray
) -> float:
    """How much easier the peers found the context than their other prompts."""
    votes = _Votes.of(rewards, means, similarity)
    level = 0.0
    for _ in range(_STEPS):
        score, curvature = votes.at(guess + level)
        step = (score.sum() - level / _VARIANCE) / (curvature.sum() + 1.0 / _VARIANCE)
        level += float(np.clip(step, -_LONGEST_STEP, _LONGEST_STEP))
    return level


@dataclass(frozen=True, slots=True, eq=False)
class _Votes:
    """Rewards of peers on prompts, laid out for Newton steps over hundreds of columns.

    Attributes:
        ability: Logit of the mean reward of each peer, ``[P, 1]`` or ``[P, N]``.
        rewards: Of each peer, ``[P, N]``; 0 where it does not know a prompt.
        weights: How much each counts, ``[P, N]``; 0 where it does not know a prompt.
    """

    ability: FloatArray
    rewards: FloatArray
    weights: FloatArray

    @classmethod
    def of(cls, rewards: FloatArray, means: FloatArray, similarity: FloatArray) -> "_Votes":
        """From rewards ``[P, N]``, NaN where unknown; the others broadcast to their shape."""
        unknown = np.isnan(rewards)
        known_rewards = np.where(unknown, 0.0, rewards)
        return cls(logit(means), known_rewards, np.where(unknown, 0.0, similarity))

    def at(self, easiness: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Score and curvature of the likelihood at an easiness of each prompt, ``[N]``."""
        expected = expit(self.ability + easiness)
        weighted = self.weights * expected
        curvature = weighted * (1.0 - expected)
        return np.add.reduce(self.weights * self.rewards - weighted), np.add.reduce(curvature)


def _similarity(totals: FloatArray, rows: FloatArray, sizes: FloatArray) -> FloatArray:
    """Correlations with the policy, shrunk to a prior and scaled to at most 1 on average."""
    correlation = (totals + _PRIOR_CORRELATION * _PRIOR_ROWS) / (rows + _PRIOR_ROWS)
    positive = np.maximum(correlation, 0.0)
    average = (positive * (sizes + 1.0)).sum(0) / (sizes + 1.0).sum(0)
    scaled: FloatArray = positive / np.maximum(average, _LEAST_CORRELATION)
    return scaled


def _centred(rewards: FloatArray, means: FloatArray) -> FloatArray:
    """Rewards less each peer's mean on these prompts; 0 where it does not know a prompt."""
    known = ~np.isnan(rewards)
    residuals = np.where(known, rewards - means[:, None], 0.0)
    shift = residuals.sum(1) / np.maximum(known.sum(1), 1)
    return np.where(known, residuals - shift[:, None], 0.0)


def _variance(means: FloatArray) -> FloatArray:
    return means * (1.0 - means)


def _beyond_noise(square: float, noise: float) -> float:
    """Positive-part shrinkage: 0 for a squared z-score below ``noise``, near 1 far above."""
    return max(0.0, 1.0 - noise / max(square, _TINY))
