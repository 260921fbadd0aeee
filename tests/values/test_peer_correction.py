"""The correction by other policies, on policies made from known difficulties."""

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


def world(
    peers: int, seed: int, *, related: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewards of a policy on prompts, of its peers on the same, and the peers' means."""
    generator = np.random.default_rng(seed)
    difficulty = 1.5 * generator.normal(size=CONTEXT + QUERIES)
    mine = (generator.random(len(difficulty)) < expit(difficulty)).astype(float)
    shared = difficulty if related else 1.5 * generator.normal(size=(peers, len(difficulty)))
    theirs = generator.random((peers, len(difficulty))) < expit(shared + generator.normal())
    return mine, theirs.astype(float), theirs.mean(axis=1).clip(0.05, 0.95)


def fitted(
    mine: np.ndarray, peer_rewards: np.ndarray, means: np.ndarray
) -> tuple[PeerCorrection, float]:
    """For a head that knows the context's mean only."""
    rewards = mine[:CONTEXT]
    offset = float(logit(rewards.mean()))
    context = peer_rewards[:, :CONTEXT]
    loo_logits = np.full(CONTEXT, offset)
    prior = agreement(context, means)
    return fit_peer_correction(loo_logits, offset, rewards, context, means, prior), offset


@pytest.mark.parametrize("peers", [1, 3, 20])
def test_related_policies_tell_prompts_apart(peers: int) -> None:
    found = []
    for seed in range(5):
        mine, peer_rewards, means = world(peers, seed)
        correction, offset = fitted(mine, peer_rewards, means)
        logits = correction.correct(np.full(QUERIES, offset), peer_rewards[:, CONTEXT:])
        found.append(auc(mine[CONTEXT:], expit(logits)))
    # One coin per prompt and peer: with more of them more is known.
    assert np.mean(found) > {1: 0.62, 3: 0.70, 20: 0.76}[peers]


def test_a_prompt_that_nobody_knows_keeps_its_value() -> None:
    mine, peer_rewards, means = world(5, 0)
    correction, _ = fitted(mine, peer_rewards, means)
    logits = np.linspace(-2, 2, 9)
    unknown = np.full((5, 9), np.nan)
    np.testing.assert_array_equal(correction.correct(logits, unknown), logits)


@pytest.mark.parametrize("peers", [1, 10])
def test_unrelated_policies_hardly_change_a_value(peers: int) -> None:
    changes = []
    for seed in range(10):
        mine, peer_rewards, means = world(peers, seed, related=False)
        correction, offset = fitted(mine, peer_rewards, means)
        logits = correction.correct(np.full(QUERIES, offset), peer_rewards[:, CONTEXT:])
        changes.append(np.abs(expit(logits) - expit(offset)).mean())
    assert np.mean(changes) < 0.01


def test_an_empty_population_says_nothing() -> None:
    mine, peer_rewards, _ = world(3, 0)
    correction, _ = fitted(mine, np.full_like(peer_rewards, np.nan), np.full(3, 0.5))
    assert correction.weight == 0.0


def test_the_context_is_not_judged_by_its_own_labels() -> None:
    """Leave-one-out logits of the context tell it no better than new prompts are told."""
    context, queries = [], []
    for seed in range(20):
        mine, peer_rewards, means = world(3, seed)
        correction, offset = fitted(mine, peer_rewards, means)
        logits = correction.correct(np.full(QUERIES, offset), peer_rewards[:, CONTEXT:])
        context.append(auc(mine[:CONTEXT], expit(correction.loo_logits)))
        queries.append(auc(mine[CONTEXT:], expit(logits)))
    assert np.mean(context) <= np.mean(queries) + 0.01


def test_queries_of_several_populations_are_corrected_as_if_alone() -> None:
    generator = np.random.default_rng(5)
    populations, logits, rewards = [], [], []
    for peer_rewards, queries in ((3, 4), (1, 1), (6, 2)):
        means = generator.uniform(0.1, 0.9, peer_rewards)
        similarity = generator.uniform(0.0, 2.0, peer_rewards)
        level, offset, weight = generator.normal(size=3)
        populations.append(PeerCorrection(means, similarity, level, offset, weight, np.zeros(0)))
        logits.append(generator.normal(size=queries))
        earned = generator.random((peer_rewards, queries))
        earned[generator.random(earned.shape) < 0.4] = np.nan
        rewards.append(earned)
    together = correct(populations, logits, rewards)
    for one, own, earned, found in zip(populations, logits, rewards, together, strict=True):
        np.testing.assert_allclose(found, one.correct(own, earned), rtol=1e-12)
        unknown = np.isnan(earned).all(axis=0)
        np.testing.assert_array_equal(found[unknown], own[unknown])
        assert (found[~unknown] != own[~unknown]).all()
