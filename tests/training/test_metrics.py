import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from vzero_train.evaluation.metrics import (
    auc,
    mse,
    pair_credit,
    pairwise_accuracy,
    prompt_pairs,
    weighted_auc,
)
from vzero_train.evaluation.resampling import Interval, Resampling

TENTHS = st.integers(0, 10).map(lambda tenth: tenth / 10)


def test_auc_by_hand() -> None:
    # Successes 0.9 and 0.4, failures 0.4 and 0.1: three pairs right, one equal.
    assert auc([1.0, 0.5, 0.4, 0.0], [0.9, 0.4, 0.4, 0.1]) == pytest.approx(3.5 / 4)
    assert np.isnan(auc([1.0, 1.0], [0.1, 0.2]))


def test_mse_by_hand() -> None:
    assert mse([1.0, 0.0], [0.5, 0.1]) == pytest.approx((0.25 + 0.01) / 2)


@given(
    rows=st.lists(st.tuples(TENTHS, TENTHS, st.integers(0, 3)), min_size=2, max_size=12),
)
def test_a_weighted_auc_is_the_auc_of_repeated_queries(
    rows: list[tuple[float, float, int]],
) -> None:
    rewards, values, counts = (np.array(column) for column in zip(*rows, strict=True))
    expected = auc(np.repeat(rewards, counts), np.repeat(values, counts))
    weights = np.stack([counts, 2 * counts]).astype(float)
    np.testing.assert_allclose(weighted_auc(rewards, values, weights), [expected] * 2)


def test_pairwise_accuracy_by_hand() -> None:
    prompts = [7, 3, 7, 3, 7, 5]
    rewards = [0.2, 1.0, 0.8, 1.0, 0.5, 0.0]
    values = [0.3, 0.6, 0.5, 0.1, 0.3, 0.9]
    # Prompt 7: 0.2 < 0.8 right, 0.2 < 0.5 equal, 0.8 > 0.5 right. Prompt 3: rewards equal.
    assert pairwise_accuracy(prompts, rewards, values) == pytest.approx(2.5 / 3)
    left, right = prompt_pairs(prompts, rewards)
    assert {frozenset(pair) for pair in zip(left, right, strict=True)} == {
        frozenset(pair) for pair in ((0, 2), (0, 4), (2, 4))
    }
    assert sorted(pair_credit(rewards, values, (left, right))) == [0.5, 1.0, 1.0]
    assert np.isnan(pairwise_accuracy([1, 2], [0.0, 1.0], [0.1, 0.2]))


def test_calibration_error_by_hand() -> None:
    rewards = np.array([0.0, 0.0, 1.0, 1.0])
    values = np.array([0.1, 0.3, 0.6, 0.8])
    # Bins {0.1, 0.3} and {0.6, 0.8}: gaps 0.2 and -0.3.
    errors = Resampling(np.arange(4), resamples=3).calibration_error(rewards, values, bins=2)
    assert errors[0] == pytest.approx(0.25)


def test_a_correlation_of_ranks_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    left = rng.permutation(50)
    right = np.argsort(np.argsort(left + rng.normal(0, 20, 50)))
    rows = Resampling(np.arange(50), resamples=3)
    correlations = rows.correlation(left.astype(float), right.astype(float))
    assert correlations[0] == pytest.approx(spearmanr(left, right).statistic)
    assert rows.correlation(np.ones(50), right.astype(float))[0] == 0.0


def test_contexts_are_weighted_by_their_queries() -> None:
    rewards = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    values = np.array([0.9, 0.1, 0.1, 0.9, 0.8, 0.2, 0.3])
    contexts = np.array([0, 0, 1, 1, 1, 2, 2])
    # AUC 1 of two queries, 0 of three; the third context ranks nothing.
    for clusters in (contexts, np.arange(7)):
        aucs = Resampling(clusters, resamples=5).mean_auc(rewards, values, contexts)
        assert aucs[0] == pytest.approx(2 / 5)


@pytest.mark.parametrize("size", [1, 5])
def test_intervals_cover_the_truth(size: int) -> None:
    """About 95 % of the intervals contain the true mean, for clusters of equal rows."""
    rng = np.random.default_rng(size)
    trials, clusters = 300, 80
    held = 0
    for trial in range(trials):
        values = np.repeat(rng.normal(0.3, 1.0, clusters), size)
        rows = Resampling(np.repeat(np.arange(clusters), size), resamples=400, seed=trial)
        interval = Interval.of(rows.mean(values))
        held += interval.low <= 0.3 <= interval.high
    assert 0.90 <= held / trials <= 0.98


def test_many_clusters_are_thrown_together_without_losing_rows() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=5000)
    rows = Resampling(np.arange(5000), resamples=400)
    interval = Interval.of(rows.mean(values))
    assert interval.estimate == pytest.approx(values.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 / 5000**0.5, rel=0.2)


def test_nothing_to_resample() -> None:
    empty = np.empty(0)
    interval = Interval.of(Resampling(empty, resamples=4).mean(empty))
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()


def test_metrics_need_no_torch() -> None:
    code = "import sys, vzero_train.evaluation.metrics; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
