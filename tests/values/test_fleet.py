"""Reading a fleet jointly: weights against what was put in, and nothing where nothing is shared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from vzero_server.values.fleet import CLUSTER_COUNTS, FleetCalibration
from vzero_server.values.kmeans import KMeans

PROMPTS, POLICIES = 400, 5
LEVELS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])


def kinds_of_prompts(prompts: int = PROMPTS) -> tuple[np.ndarray, np.ndarray]:
    """Kinds, and embeddings of length 1 that lie by kind."""
    rng = np.random.default_rng(1)
    kinds = np.arange(prompts) % 4
    near = np.eye(4)[kinds] + 0.05 * rng.normal(size=(prompts, 4))
    unit = near / np.linalg.norm(near, axis=1, keepdims=True)
    return kinds, unit.astype(np.float32)


def drawn(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(logits.shape) < expit(logits)).astype(float)


def own_parts(seed: int = 2) -> np.ndarray:
    """What sets policies apart on each prompt, whatever its kind."""
    parts = np.random.default_rng(seed).normal(size=(PROMPTS, POLICIES))
    return parts - parts.mean(1, keepdims=True)


def test_own_parts_count_for_what_they_are_worth() -> None:
    _, embeddings = kinds_of_prompts()
    own = own_parts()
    said = LEVELS + own
    right = FleetCalibration.fit(said, LEVELS, drawn(LEVELS + own), embeddings)
    half = FleetCalibration.fit(said, LEVELS, drawn(LEVELS + 0.5 * own), embeddings)
    noise = FleetCalibration.fit(said, LEVELS, drawn(np.tile(LEVELS, (PROMPTS, 1))), embeddings)
    wrong = FleetCalibration.fit(said, LEVELS, drawn(LEVELS - own), embeddings)
    assert right.deviation_weight > 0.85
    assert half.deviation_weight == pytest.approx(0.5, abs=0.12)
    assert noise.deviation_weight < 0.15
    assert wrong.deviation_weight == 0.0
    assert max(one.cluster_weight for one in (right, half, noise)) < 0.3, "kinds tell nothing here"


def test_kinds_count_where_policies_differ_by_kind() -> None:
    kinds, embeddings = kinds_of_prompts()
    truth = np.zeros((PROMPTS, POLICIES))
    truth[kinds == 0, 0], truth[kinds == 1, 0] = 2.0, -2.0
    rewards = drawn(truth)
    # The policies by themselves know nothing of it.
    levels = logit(rewards.mean(0))
    calibration = FleetCalibration.fit(np.tile(levels, (PROMPTS, 1)), levels, rewards, embeddings)
    assert calibration.cluster_weight > 0.6
    asked = np.eye(4, dtype=np.float32)
    values = expit(calibration.logits(np.tile(levels, (4, 1)), levels, asked))
    assert values[0, 0] > 0.7
    assert values[1, 0] < 0.3
    assert abs(values[2:] - 0.5).max() < 0.15


def test_the_formula() -> None:
    _, embeddings = kinds_of_prompts(8)
    cells = KMeans(np.eye(4, dtype=np.float32)[:2])
    parts = np.array([[0.4, -0.4], [-1.0, 1.0]])
    calibration = FleetCalibration(0.25, 0.5, (cells,), (parts,))
    logits, levels = np.array([[2.0, 1.0]] * 8), np.array([1.0, -1.0])
    # Beyond the levels 1 and 2: shared 1.5, own -.5 and .5.
    kinds = cells.nearest(embeddings)
    expected = levels + 1.5 + 0.25 * np.array([-0.5, 0.5]) + 0.5 * parts[kinds]
    np.testing.assert_allclose(calibration.logits(logits, levels, embeddings), expected)
    assert set(kinds[:2]) == {0, 1}


@pytest.mark.parametrize("shared", [0, 15])
def test_who_shares_no_prompts_stays_as_it_is(shared: int) -> None:
    _, embeddings = kinds_of_prompts()
    said, rewards = LEVELS + own_parts(), drawn(np.tile(LEVELS, (PROMPTS, 1)))
    owner = np.arange(PROMPTS) % POLICIES
    known = owner[:, None] == np.arange(POLICIES)
    known[:shared] = True
    alone = FleetCalibration.fit(
        np.where(known, said, np.nan), LEVELS, np.where(known, rewards, np.nan), embeddings
    )
    assert (alone.deviation_weight, alone.cluster_weight, alone.partitions) == (1.0, 0.0, ())
    np.testing.assert_allclose(alone.logits(said, LEVELS, embeddings), said)


def test_who_knows_no_prompt_of_a_kind_is_expected_to_do_as_the_fleet() -> None:
    kinds, embeddings = kinds_of_prompts()
    truth = np.zeros((PROMPTS, POLICIES))
    truth[kinds == 0, :4] = -2.0
    truth[kinds == 1, 0] = 2.0
    rewards = drawn(truth)
    rewards[kinds == 0, 4] = np.nan
    levels = np.zeros(POLICIES)
    said = np.where(np.isnan(rewards), np.nan, 0.0)
    calibration = FleetCalibration.fit(said, levels, rewards, embeddings)
    for one, parts in zip(calibration.partitions, calibration.cluster_parts, strict=True):
        hard = one.nearest(np.eye(4, dtype=np.float32)[:1])
        assert parts[hard, 4] == 0.0
        assert abs(parts[hard, :4]).max() < 0.6


def test_few_prompts_make_few_cells() -> None:
    said, rewards = LEVELS + own_parts()[:40], drawn(np.tile(LEVELS, (40, 1)))
    _, embeddings = kinds_of_prompts(40)
    calibration = FleetCalibration.fit(said, LEVELS, rewards, embeddings)
    assert [len(one) for one in calibration.partitions] == [4]
    assert FleetCalibration.fit(said, LEVELS, rewards, embeddings, ()).cluster_weight == 0.0
    many = FleetCalibration.fit(
        LEVELS + own_parts(), LEVELS, drawn(LEVELS + own_parts()), kinds_of_prompts()[1]
    )
    assert [len(one) for one in many.partitions] == list(CLUSTER_COUNTS)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.0, 0.3, 3.0, 30.0]),
    share=st.floats(0.0, 1.0),
)
def test_weights_and_logits_stay_within_bounds(seed: int, scale: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(64, 3)).astype(np.float32)
    embeddings[:: max(1, seed % 7)] = 0.5
    said = LEVELS + scale * rng.normal(size=(64, POLICIES))
    rewards = rng.random((64, POLICIES)).round(seed % 3)
    unknown = rng.random((64, POLICIES)) > share
    said[unknown], rewards[unknown] = np.nan, np.nan
    calibration = FleetCalibration.fit(said, LEVELS, rewards, embeddings)
    assert 0.0 <= calibration.deviation_weight <= 1.0
    assert 0.0 <= calibration.cluster_weight <= 1.0
    asked = LEVELS + scale * rng.normal(size=(9, POLICIES))
    assert np.isfinite(calibration.logits(asked, LEVELS, embeddings[:9])).all()


def test_cells_find_kinds() -> None:
    kinds, embeddings = kinds_of_prompts()
    cells = KMeans.fit(embeddings, 4)
    place = cells.nearest(embeddings)
    assert len(cells) == 4
    assert len({(kind, cell) for kind, cell in zip(kinds, place, strict=True)}) == 4
    np.testing.assert_array_equal(KMeans.fit(embeddings, 4).centres, cells.centres)


def test_prompts_that_are_all_the_same_are_one_cell() -> None:
    same = np.ones((30, 3), np.float32)
    assert len(KMeans.fit(same, 8)) == 1
    assert (KMeans.fit(same, 8).nearest(same) == 0).all()
