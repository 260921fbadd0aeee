"""Fleet calibration: weights of simulated fleets, and no change where nothing is shared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from vzero_server.values.fleet import CLUSTER_COUNTS, FleetCalibration
from vzero_server.values.kmeans import KMeans

PROMPTS, POLICIES = 400, 5
LEVELS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


def clustered_prompts(prompts: int = PROMPTS) -> tuple[np.ndarray, np.ndarray]:
    """Clusters ``[n]`` of prompts, and embeddings of length 1 around the clusters' centres."""
    rng = np.random.default_rng(1)
    clusters = np.arange(prompts) % 4
    near = np.eye(4)[clusters] + 0.05 * rng.normal(size=(prompts, 4))
    unit = near / np.linalg.norm(near, axis=1, keepdims=True)
    return clusters, unit.astype(np.float32)


def draw_rewards(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(logits.shape) < expit(logits)).astype(float)


def draw_deviations(seed: int = 2) -> np.ndarray:
    """Deviations of policies on single prompts, unrelated to clusters, ``[N, P]``."""
    deviations = np.random.default_rng(seed).normal(size=(PROMPTS, POLICIES))
    return deviations - deviations.mean(1, keepdims=True)


def test_the_deviation_weight_matches_that_of_the_simulation() -> None:
    _, embeddings = clustered_prompts()
    deviations = draw_deviations()
    loo_logits = LEVELS + deviations
    exact = FleetCalibration.fit(loo_logits, LEVELS, draw_rewards(LEVELS + deviations), embeddings)
    half = FleetCalibration.fit(
        loo_logits, LEVELS, draw_rewards(LEVELS + 0.5 * deviations), embeddings
    )
    noise = FleetCalibration.fit(
        loo_logits, LEVELS, draw_rewards(np.tile(LEVELS, (PROMPTS, 1))), embeddings
    )
    opposite = FleetCalibration.fit(
        loo_logits, LEVELS, draw_rewards(LEVELS - deviations), embeddings
    )
    assert exact.deviation_weight > 0.85
    assert half.deviation_weight == pytest.approx(0.5, abs=0.12)
    assert noise.deviation_weight < 0.15
    assert opposite.deviation_weight == 0.0
    assert max(calibration.cluster_weight for calibration in (exact, half, noise)) < 0.3, (
        "clusters carry no information here"
    )


def test_the_cluster_weight_is_high_where_policies_differ_by_cluster() -> None:
    clusters, embeddings = clustered_prompts()
    truth = np.zeros((PROMPTS, POLICIES))
    truth[clusters == 0, 0], truth[clusters == 1, 0] = 2.0, -2.0
    rewards = draw_rewards(truth)
    # The leave-one-out logits do not contain the difference.
    levels = logit(rewards.mean(0))
    calibration = FleetCalibration.fit(np.tile(levels, (PROMPTS, 1)), levels, rewards, embeddings)
    assert calibration.cluster_weight > 0.6
    centres = np.eye(4, dtype=np.float32)
    values = expit(calibration.logits(np.tile(levels, (4, 1)), levels, centres))
    assert values[0, 0] > 0.7
    assert values[1, 0] < 0.3
    assert abs(values[2:] - 0.5).max() < 0.15


def test_calibrated_logits_follow_the_formula() -> None:
    _, embeddings = clustered_prompts(8)
    partition = KMeans(np.eye(4, dtype=np.float32)[:2])
    parts = np.array([[0.4, -0.4], [-1.0, 1.0]])
    calibration = FleetCalibration(0.25, 0.5, (partition,), (parts,))
    logits, levels = np.array([[2.0, 1.0]] * 8), np.array([1.0, -1.0])
    # Beyond the levels 1 and 2: shared 1.5, deviations -0.5 and 0.5.
    clusters = partition.nearest(embeddings)
    expected = levels + 1.5 + 0.25 * np.array([-0.5, 0.5]) + 0.5 * parts[clusters]
    np.testing.assert_allclose(calibration.logits(logits, levels, embeddings), expected)
    assert set(clusters[:2]) == {0, 1}


@pytest.mark.parametrize("shared", [0, 15])
def test_policies_that_share_too_few_prompts_are_not_calibrated(shared: int) -> None:
    _, embeddings = clustered_prompts()
    loo_logits, rewards = LEVELS + draw_deviations(), draw_rewards(np.tile(LEVELS, (PROMPTS, 1)))
    owner = np.arange(PROMPTS) % POLICIES
    known = owner[:, None] == np.arange(POLICIES)
    known[:shared] = True
    calibration = FleetCalibration.fit(
        np.where(known, loo_logits, np.nan), LEVELS, np.where(known, rewards, np.nan), embeddings
    )
    assert calibration.is_identity
    assert calibration.partitions == ()
    np.testing.assert_allclose(calibration.logits(loo_logits, LEVELS, embeddings), loo_logits)


def test_a_policy_without_rewards_in_a_cluster_is_expected_to_follow_the_fleet() -> None:
    clusters, embeddings = clustered_prompts()
    truth = np.zeros((PROMPTS, POLICIES))
    truth[clusters == 0, :4] = -2.0
    truth[clusters == 1, 0] = 2.0
    rewards = draw_rewards(truth)
    rewards[clusters == 0, 4] = np.nan
    levels = np.zeros(POLICIES)
    loo_logits = np.where(np.isnan(rewards), np.nan, 0.0)
    calibration = FleetCalibration.fit(loo_logits, levels, rewards, embeddings)
    for partition, parts in zip(calibration.partitions, calibration.cluster_parts, strict=True):
        cluster = partition.nearest(np.eye(4, dtype=np.float32)[:1])
        assert parts[cluster, 4] == 0.0
        assert abs(parts[cluster, :4]).max() < 0.6


def test_few_prompts_make_few_clusters() -> None:
    loo_logits, rewards = LEVELS + draw_deviations()[:40], draw_rewards(np.tile(LEVELS, (40, 1)))
    _, embeddings = clustered_prompts(40)
    calibration = FleetCalibration.fit(loo_logits, LEVELS, rewards, embeddings)
    assert [len(partition) for partition in calibration.partitions] == [4]
    assert FleetCalibration.fit(loo_logits, LEVELS, rewards, embeddings, ()).cluster_weight == 0.0
    many = FleetCalibration.fit(
        LEVELS + draw_deviations(),
        LEVELS,
        draw_rewards(LEVELS + draw_deviations()),
        clustered_prompts()[1],
    )
    assert [len(partition) for partition in many.partitions] == list(CLUSTER_COUNTS)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    share=st.floats(0.0, 1.0),
)
def test_weights_and_logits_stay_within_bounds(seed: int, scale: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(64, 3)).astype(np.float32)
    embeddings[:: max(1, seed % 7)] = 0.5
    loo_logits = LEVELS + scale * rng.normal(size=(64, POLICIES))
    rewards = rng.random((64, POLICIES)).round(seed % 3)
    unknown = rng.random((64, POLICIES)) > share
    loo_logits[unknown], rewards[unknown] = np.nan, np.nan
    calibration = FleetCalibration.fit(loo_logits, LEVELS, rewards, embeddings)
    assert 0.0 <= calibration.deviation_weight <= 1.0
    assert 0.0 <= calibration.cluster_weight <= 1.0
    query_logits = LEVELS + scale * rng.normal(size=(9, POLICIES))
    assert np.isfinite(calibration.logits(query_logits, LEVELS, embeddings[:9])).all()


def test_k_means_finds_the_clusters_of_prompts() -> None:
    clusters, embeddings = clustered_prompts()
    partition = KMeans.fit(embeddings, 4)
    nearest = partition.nearest(embeddings)
    assert len(partition) == 4
    assert len(set(zip(clusters, nearest, strict=True))) == 4
    np.testing.assert_array_equal(KMeans.fit(embeddings, 4).centres, partition.centres)


def test_equal_embeddings_form_one_cluster() -> None:
    equal = np.ones((30, 3), np.float32)
    assert len(KMeans.fit(equal, 8)) == 1
    assert (KMeans.fit(equal, 8).nearest(equal) == 0).all()
