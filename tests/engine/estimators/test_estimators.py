"""Nearest neighbours, the prior, and the intervals of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzero_server.engine.estimators.base import Estimator, Query
from vzero_server.engine.estimators.knn import NearestNeighbours
from vzero_server.engine.estimators.prior import Prior
from vzero_server.engine.estimators.window import ContextWindow
from vzero_server.storage.records import Row
from vzero_server.values.beta import Values
from vzero_server.values.dispersion import concentration


def window_of(rewards: np.ndarray, rollouts: int = 10, dimension: int = 4) -> ContextWindow:
    vectors = np.random.default_rng(0).normal(size=(len(rewards), dimension)).astype("f4")
    rows = [Row(i, i, float(r), rollouts, None, 0.0, None) for i, r in enumerate(rewards, start=1)]
    return ContextWindow.empty(dimension).extended(len(rows), rows, vectors, 2048)


def estimate(estimator: Estimator, window: ContextWindow, queries: np.ndarray) -> Values:
    return estimator.predict([Query(estimator.fit(window), queries)])[0]


def test_knn_is_the_mean_reward_of_the_nearest_rows() -> None:
    generator = np.random.default_rng(1)
    window = window_of(generator.random(300))
    queries = generator.normal(size=(20, 4)).astype(np.float32)
    distances = np.linalg.norm(queries[:, None] - window.embeddings[None], axis=2)
    nearest = distances.argsort(axis=1)[:, :64]
    values = estimate(NearestNeighbours(64), window, queries)
    np.testing.assert_allclose(values.mean, window.rewards[nearest].mean(axis=1), atol=1e-6)
    assert values.basis == "knn"


def test_knn_uses_all_rows_of_a_context_shorter_than_k() -> None:
    window = window_of(np.array([0.0, 0.5, 1.0]))
    values = estimate(NearestNeighbours(64), window, np.zeros((2, 4), np.float32))
    np.testing.assert_allclose(values.mean, 0.5)


def test_the_prior_is_wide_and_shrinks_towards_one_half() -> None:
    queries = np.zeros((3, 4), np.float32)
    empty = estimate(Prior(), window_of(np.array([])), queries)
    np.testing.assert_allclose(empty.mean, 0.5)
    failures = estimate(Prior(), window_of(np.zeros(3)), queries)
    np.testing.assert_allclose(failures.mean, 0.2)
    for values in (empty, failures):
        assert (values.upper - values.lower > 0.6).all()
        assert values.basis == "prior"


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0.001, 0.999), st.floats(0.05, 1000)),
        min_size=1,
        max_size=20,
    ),
)
def test_intervals_contain_their_mean(cases: list[tuple[float, float, float]]) -> None:
    mean, centre, kappa = (np.array(column) for column in zip(*cases, strict=True))
    values = Values(mean, centre, kappa, "knn")
    for column in (values.lower, values.upper):
        assert np.isfinite(column).all()
    assert (values.lower >= 0).all()
    assert (values.lower <= mean).all()
    assert (mean <= values.upper).all()
    assert (values.upper <= 1).all()


@pytest.mark.parametrize("kappa", [0.5, 2.0, 20.0])
def test_concentration_recovers_that_of_beta_distributed_rates(kappa: float) -> None:
    """Rewards averaged over 10 rollouts of Beta-distributed success rates."""
    generator = np.random.default_rng(2)
    rates = generator.beta(0.4 * kappa, 0.6 * kappa, size=(200, 64))
    rewards = generator.binomial(10, rates) / 10
    estimated = np.median(
        concentration(rewards, np.full(rewards.shape, 10), rewards.mean(1, keepdims=True))
    )
    assert 0.5 * kappa <= estimated <= 1.6 * kappa


def test_concentration_of_single_rollouts_is_the_prior() -> None:
    rewards = np.random.default_rng(3).binomial(1, 0.4, size=(50, 64)).astype(float)
    rollouts = np.ones(rewards.shape, np.int64)
    estimated = concentration(rewards, rollouts, rewards.mean(1, keepdims=True))
    np.testing.assert_allclose(estimated, 2.0)


def test_concentration_of_rewards_that_are_all_zero_is_the_prior() -> None:
    rewards = np.zeros((1, 64))
    np.testing.assert_allclose(concentration(rewards, np.full((1, 64), 10), np.zeros((1, 1))), 2.0)
    values = estimate(NearestNeighbours(64), window_of(rewards[0]), np.zeros((1, 4), np.float32))
    assert values.mean[0] == 0.0
    assert values.upper[0] < 0.1


def test_intervals_cover_ninety_percent_of_success_rates() -> None:
    """For further prompts whose success rates are drawn like those of the context."""
    generator = np.random.default_rng(4)
    inside = []
    for _ in range(100):
        rates = generator.beta(2.0, 3.0, size=129)
        window = window_of(generator.binomial(10, rates[:128]) / 10)
        values = estimate(NearestNeighbours(64), window, np.zeros((1, 4), np.float32))
        inside.append(values.lower[0] <= rates[128] <= values.upper[0])
    assert 0.82 <= np.mean(inside) <= 0.97
