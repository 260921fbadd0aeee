"""Peer correction of policies simulated from the difficulties of prompts."""

import numpy as np
import pytest
from scipy.special import expit, logit

from vzero_server.values.peer_correction import (
    PeerCorrection,
    agreement,
    correct,
    fit_peer_correction,
)
from vzero_train.evaluation.metrics import auc

CONTEXT, QUERIES = 200, 300


def simulate(
    peers: int, seed: int, *, related: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards of a policy on prompts, those of its peers, and the peers' mean rewards."""
    generator = np.random.default_rng(seed)
    difficulty = 1.5 * generator.normal(size=CONTEXT + QUERIES)
    rewards = (generator.random(len(difficulty)) < expit(difficulty)).astype(float)
    peer_difficulty = (
        difficulty if related else 1.5 * generator.normal(size=(peers, len(difficulty)))
    )
    peer_rewards = (
        generator.random((peers, len(difficulty))) < expit(peer_difficulty + generator.normal())
    ).astype(float)
    return rewards, peer_rewards, peer_rewards.mean(axis=1).clip(0.05, 0.95)


def fit_correction(
    rewards: np.ndarray, peer_rewards: np.ndarray, means: np.ndarray
) -> tuple[PeerCorrection, float]:
    """The correction of an estimator that predicts the context's mean, and that mean's logit."""
    rewards = rewards[:CONTEXT]
    offset = float(logit(rewards.mean()))
    context = peer_rewards[:, :CONTEXT]
    loo_logits = np.full(CONTEXT, offset)
    prior = agreement(context, means)
    return fit_peer_correction(loo_logits, offset, rewards, context, means, prior), offset


@pytest.mark.parametrize("peers", [1, 3, 20])
def test_related_peers_make_values_discriminate_between_prompts(peers: int) -> None:
    aucs = []
    for seed in range(5):
        rewards, peer_rewards, means = simulate(peers, seed)
        correction, offset = fit_correction(rewards, peer_rewards, means)
        logits = correction.correct(np.full(QUERIES, offset), peer_rewards[:, CONTEXT:])
        aucs.append(auc(rewards[CONTEXT:], expit(logits)))
    # There is one outcome per prompt and peer, so that more peers give more evidence.
    assert np.mean(aucs) > {1: 0.62, 3: 0.70, 20: 0.76}[peers]


def test_a_prompt_unknown_to_all_peers_keeps_its_value() -> None:
    rewards, peer_rewards, means = simulate(5, 0)
    correction, _ = fit_correction(rewards, peer_rewards, means)
    logits = np.linspace(-2, 2, 9)
    unknown = np.full((5, 9), np.nan)
    np.testing.assert_array_equal(correction.correct(logits, unknown), logits)


@pytest.mark.parametrize("peers", [1, 10])
def test_unrelated_peers_hardly_change_values(peers: int) -> None:
    changes = []
    for seed in range(10):
        rewards, peer_rewards, means = simulate(peers, seed, related=False)
        correction, offset = fit_correction(rewards, peer_rewards, means)
        logits = correction.correct(np.full(QUERIES, offset), peer_rewards[:, CONTEXT:])
        changes.append(np.abs(expit(logits) - expit(offset)).mean())
    assert np.mean(changes) < 0.01


def test_peers_without_rewards_have_no_weight() -> None:
    rewards, peer_rewards, _ = simulate(3, 0)
    correction, _ = fit_correction(rewards, np.full_like(peer_rewards, np.nan), np.full(3, 0.5))
    assert correction.weight == 0.0


def test_loo_logits_do_not_use_the_reward_of_their_row() -> None:
    """They discriminate between context prompts no better than between new ones."""
    context, queries = [], []
    for seed in range(20):
        rewards, peer_rewards, means = simulate(3, seed)
        correction, offset = fit_correction(rewards, peer_rewards, means)
        logits = correction.correct(np.full(QUERIES, offset), peer_rewards[:, CONTEXT:])
        context.append(auc(rewards[:CONTEXT], expit(correction.loo_logits)))
        queries.append(auc(rewards[CONTEXT:], expit(logits)))
    assert np.mean(context) <= np.mean(queries) + 0.01


def test_batched_corrections_equal_single_ones() -> None:
    generator = np.random.default_rng(5)
    corrections, logits, rewards = [], [], []
    for peers, queries in ((3, 4), (1, 1), (6, 2)):
        means = generator.uniform(0.1, 0.9, peers)
        similarity = generator.uniform(0.0, 2.0, peers)
        level, offset, weight = generator.normal(size=3)
        corrections.append(PeerCorrection(means, similarity, level, offset, weight, np.zeros(0)))
        logits.append(generator.normal(size=queries))
        peer_rewards = generator.random((peers, queries))
        peer_rewards[generator.random(peer_rewards.shape) < 0.4] = np.nan
        rewards.append(peer_rewards)
    batched = correct(corrections, logits, rewards)
    for correction, before, peer_rewards, after in zip(
        corrections, logits, rewards, batched, strict=True
    ):
        np.testing.assert_allclose(after, correction.correct(before, peer_rewards), rtol=1e-12)
        unknown = np.isnan(peer_rewards).all(axis=0)
        np.testing.assert_array_equal(after[unknown], before[unknown])
        assert (after[~unknown] != before[~unknown]).all()
