"""The in-context head as an estimator, against the head itself."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.special import expit

from tests.tiny_head import tiny_head
from vzero_server.engine.estimators.base import Query
from vzero_server.engine.estimators.icl import InContext
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.storage.records import Row
from vzero_server.values.beta import Values
from vzero_server.values.peer_correction import fit_to_context

HEAD = tiny_head()
POOLED = 3


def vectors(count: int, seed: int = 0) -> np.ndarray:
    """Feature vectors as an encoder would make them."""
    columns = POOLED + HEAD.config.features
    return np.random.default_rng(seed).normal(size=(count, columns)).astype(np.float16)


def window_of(
    estimator: InContext,
    features: np.ndarray,
    rewards: np.ndarray,
    rollouts: int = 1,
    steps: np.ndarray | None = None,
) -> ContextWindow:
    rows = [
        Row(i, i, float(r), rollouts, None if steps is None else int(steps[i]), 0.0, None)
        for i, r in enumerate(rewards)
    ]
    kept = {estimator.name: estimator.window_features(features[:, POOLED:])}
    empty = ContextWindow.empty(POOLED)
    return empty.extended(len(rows), rows, features[:, :POOLED], 2048, kept)


def predict(estimator: InContext, window: ContextWindow, queries: np.ndarray) -> Values:
    return estimator.predict([Query(estimator.fit(window), queries)])[0]


def test_values_equal_the_output_of_the_head() -> None:
    estimator, features = InContext(HEAD), vectors(60)
    rewards = np.random.default_rng(1).random(40).astype(np.float32)
    values = predict(estimator, window_of(estimator, features[:40], rewards), features[40:])
    head_rows = torch.from_numpy(features[:, POOLED:]).float().unsqueeze(0)
    with torch.inference_mode():
        logits = HEAD(head_rows[:, :40], torch.from_numpy(rewards).unsqueeze(0), head_rows[:, 40:])
    # Rows are kept in half precision.
    np.testing.assert_allclose(values.mean, torch.sigmoid(logits)[0].numpy(), atol=2e-3)
    assert values.basis == "icl"


def learner(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and steps of a policy that learns along ten steps, from .2 to .8."""
    steps = np.arange(count) * 10 // count
    generator = np.random.default_rng(seed)
    rewards = (generator.random(count) < 0.2 + 0.6 * steps / 9).astype(np.float32)
    return rewards, steps


def test_outcomes_with_steps_give_the_head_ages() -> None:
    estimator, features = InContext(HEAD), vectors(340)
    rewards, steps = learner(300)
    queries = features[300:]
    values = predict(
        estimator, window_of(estimator, features[:300], rewards, 1, steps), features[300:]
    )
    head_rows = (
        torch.from_numpy(estimator.window_features(features[:, POOLED:])).float().unsqueeze(0)
    )
    ages = torch.tensor([[float((steps > step).sum()) for step in steps]])
    with torch.inference_mode():
        query_rows = HEAD.rows(torch.from_numpy(queries[:, POOLED:]).float().unsqueeze(0))
        state = HEAD.encode(head_rows[:, :300], torch.from_numpy(rewards).unsqueeze(0), ages=ages)
        logits = HEAD.predict(state, query_rows)
    np.testing.assert_allclose(values.mean, torch.sigmoid(logits)[0].numpy(), atol=1e-5)
    without_steps = predict(estimator, window_of(estimator, features[:300], rewards), queries)
    assert (values.mean - without_steps.mean).mean() > 0.05
    assert abs(values.mean.mean() - 0.8) < abs(without_steps.mean.mean() - 0.8)


def test_outcomes_of_one_step_may_come_in_any_order() -> None:
    """Ages come from steps, not from the order of the rows."""
    estimator, features = InContext(HEAD), vectors(305)
    rewards, steps = learner(300)
    queries, order = features[300:], np.random.default_rng(1).permutation(300)
    for window_steps in (steps, np.full(300, 7), None):
        expected, permuted = (
            predict(
                estimator,
                window_of(
                    estimator,
                    features[:300][kept],
                    rewards[kept],
                    1,
                    None if window_steps is None else window_steps[kept],
                ),
                queries,
            )
            for kept in (np.arange(300), order)
        )
        np.testing.assert_allclose(permuted.mean, expected.mean, atol=1e-5)


def test_ages_of_a_truncated_context_count_its_newest_rows() -> None:
    estimator, features = InContext(HEAD, rows=200), vectors(305)
    rewards, steps = learner(300)
    window = window_of(estimator, features[:300], rewards, 1, steps)
    queries = features[300:]
    kept = np.arange(100, 300)
    head_rows = torch.from_numpy(window.features["icl"][kept]).float().unsqueeze(0)
    ages = torch.tensor([[float((steps > step).sum()) for step in steps[kept]]])
    with torch.inference_mode():
        state = HEAD.encode(head_rows, torch.from_numpy(rewards[kept]).unsqueeze(0), ages=ages)
        query_rows = HEAD.rows(torch.from_numpy(queries[:, POOLED:]).float().unsqueeze(0))
        logits = HEAD.predict(state, query_rows)
    assert float(state.drift[0]) > 0.02
    values = estimator.predict([Query(estimator.fit(window), queries)])[0]
    np.testing.assert_allclose(values.mean, torch.sigmoid(logits)[0].numpy(), atol=1e-5)


def test_drift_of_a_policy_does_not_bias_its_peer_correction() -> None:
    """Peers that do not drift correct values around the policy's current level."""
    estimator, generator = InContext(HEAD), np.random.default_rng(3)
    difficulty = 1.5 * generator.normal(size=400)
    steps = np.arange(400) * 10 // 400
    level = 3.0 * (steps / 9 - 0.5)
    rewards = (generator.random(400) < expit(difficulty + level)).astype(np.float32)
    peer_rewards = (generator.random((6, 400)) < expit(difficulty)).astype(np.float64)
    context = estimator.fit(window_of(estimator, vectors(400), rewards, 1, steps))
    correction = fit_to_context(context.evidence, peer_rewards, peer_rewards.mean(1))
    assert correction is not None
    assert context.evidence.drift > 0.3
    # A prompt on which the peers succeed as often as on average, 50 %.
    average = np.array([[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]]).T
    level_logit = np.array([correction.offset])
    change = correction.correct(level_logit, average) - level_logit
    assert abs(float(change[0])) < 0.3


def test_batched_queries_of_many_policies_equal_single_ones() -> None:
    """Contexts of 0 to 300 rows, calls of 1 to 20 prompts, more than one batch holds."""
    estimator, generator = InContext(HEAD), np.random.default_rng(2)
    queries = []
    for number in range(40):
        size = int(generator.integers(0, 300))
        steps = np.arange(size) // 20 if number % 2 else None
        window = window_of(estimator, vectors(size, number), generator.random(size), 1, steps)
        features = vectors(int(generator.integers(1, 20)), 1000 + number)
        queries.append(Query(estimator.fit(window), features))
    # Several queries about some of the contexts.
    queries += [
        Query(queries[number].context, vectors(3 + number, 2000 + number))
        for number in (0, 5, 5, 17)
    ]
    check_against_single_queries(estimator, queries)


@pytest.mark.parametrize("prompts", [1, 20])
def test_queries_about_the_same_prompts_equal_single_ones(prompts: int) -> None:
    estimator, features = InContext(HEAD), vectors(prompts, 7)
    windows = [window_of(estimator, vectors(n, n), np.full(n, 0.5)) for n in (0, 9, 30)]
    queries = [Query(estimator.fit(window), features) for window in windows]
    check_against_single_queries(estimator, queries)


def check_against_single_queries(estimator: InContext, queries: Sequence[Query]) -> None:
    batched = estimator.predict(queries)
    for query, values in zip(queries, batched, strict=True):
        single = estimator.predict([query])[0]
        assert values.mean.shape == (len(query),)
        np.testing.assert_allclose(values.mean, single.mean, atol=1e-5)
        np.testing.assert_allclose(values.upper, single.upper, atol=1e-4)


def test_the_head_can_be_traced(caplog: pytest.LogCaptureFixture) -> None:
    InContext(HEAD)
    assert "cannot be traced" not in caplog.text


@pytest.mark.parametrize("size", [0, 1, 7])
def test_fewer_than_min_rows_give_a_wide_prior(size: int) -> None:
    estimator = InContext(HEAD, min_rows=8)
    values = predict(estimator, window_of(estimator, vectors(size), np.ones(size)), vectors(5, 9))
    assert values.basis == "prior"
    np.testing.assert_array_equal(values.effective_sample_size, 2.0)
    assert ((values.lower >= 0) & (values.upper <= 1)).all()


@pytest.mark.parametrize("reward", [0.0, 0.5, 1.0])
def test_equal_rewards_give_values_near_them(reward: float) -> None:
    estimator = InContext(HEAD)
    values = predict(
        estimator, window_of(estimator, vectors(50), np.full(50, reward)), vectors(9, seed=3)
    )
    assert np.isfinite(values.mean).all()
    assert (np.abs(values.mean - reward) < 0.1).all()


def test_query_prompts_may_occur_in_the_context_and_repeat_in_it() -> None:
    estimator, features = InContext(HEAD), vectors(30)
    doubled = np.concatenate([features, features])
    rewards = np.tile(np.random.default_rng(5).random(30), 2)
    values = predict(estimator, window_of(estimator, doubled, rewards), features)
    assert np.isfinite(values.mean).all()
    assert ((values.lower <= values.mean) & (values.mean <= values.upper)).all()


def test_only_the_newest_rows_are_used() -> None:
    features, rewards = vectors(50), np.random.default_rng(6).random(50)
    recent = InContext(HEAD, rows=20)
    all_rows = InContext(HEAD)
    expected = predict(all_rows, window_of(all_rows, features[30:], rewards[30:]), vectors(4, 7))
    values = predict(recent, window_of(recent, features, rewards), vectors(4, 7))
    np.testing.assert_allclose(values.mean, expected.mean, atol=1e-5)


@pytest.mark.parametrize("kappa", [2.0, 20.0])
def test_intervals_cover_ninety_percent_of_success_rates(kappa: float) -> None:
    """Success rates are Beta-distributed around a common mean."""
    estimator, generator, inside = InContext(HEAD), np.random.default_rng(4), []
    for number in range(40):
        features = vectors(160, number)
        rates = generator.beta(0.4 * kappa, 0.6 * kappa, size=160)
        rewards = generator.binomial(10, rates[:128]) / 10
        values = predict(
            estimator, window_of(estimator, features[:128], rewards, 10), features[128:]
        )
        inside.append((values.lower <= rates[128:]) & (rates[128:] <= values.upper))
    assert 0.84 <= np.mean(inside) <= 0.95


def test_features_that_are_not_finite_are_rejected() -> None:
    estimator, features = InContext(HEAD), vectors(3)
    features[1, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        estimator.window_features(features[:, POOLED:])
