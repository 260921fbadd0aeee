import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import logit

from vzero_server.values import history as module
from vzero_server.values.history import SHARED, Combined, Dynamics, combine, fit, log_likelihood
from vzero_server.values.visits import Visits, earlier_visits, visits_of_outcomes

STILL = Dynamics(weight=0.5, decay=0.8, most=1e9, drift=0.0, slope=1.0)

rates = st.floats(0.0, 1.0)
outcomes = st.tuples(rates, st.integers(1, 64), st.integers(-1, 3))
histories = st.lists(outcomes, max_size=12)
dynamics = st.builds(
    Dynamics,
    weight=st.floats(0.05, 5.0),
    decay=st.floats(0.05, 0.99),
    most=st.floats(0.5, 500.0),
    drift=st.floats(-2.0, 2.0),
    slope=st.floats(0.5, 2.0),
)


def visits(*own: list[tuple[float, int, int]]) -> Visits:
    owner = np.repeat(np.arange(len(own)), [len(one) for one in own])
    rows = [row for one in own for row in one]
    return visits_of_outcomes(
        owner,
        np.array([row[2] for row in rows], np.int64),
        np.array([row[0] for row in rows], np.float64),
        np.array([row[1] for row in rows], np.float64),
        len(own),
    )


def combined(value: float, own: list[tuple[float, int, int]], how: Dynamics) -> Combined:
    return combine(np.array([value]), np.array([2.0]), visits(own), how)


def test_pasts_can_be_kept_one_by_one() -> None:
    whole = visits([(0.5, 2, 1), (1.0, 1, 3), (0.0, 1, 3)], [], [(1.0, 4, -1)], [])
    again = Visits.joined(whole.split())
    for field in ("owner", "rewards", "rollouts", "ages", "present"):
        np.testing.assert_array_equal(getattr(again, field), getattr(whole, field))
    assert again.prompts == 4
    (lone,) = whole.split()[2:3]
    np.testing.assert_array_equal(lone.rewards, [1.0])
    assert Visits.joined([lone]) is lone


@given(value=rates, how=dynamics)
def test_without_history_a_value_stays_as_it_is(value: float, how: Dynamics) -> None:
    found = combined(value, [], how)
    assert found.mean.tolist() == [value]
    assert found.concentration.tolist() == [2.0]
    assert found.weight.tolist() == [0.0]


@given(value=rates, own=histories.filter(bool))
def test_without_drift_the_mean_lies_between_value_and_history(
    value: float, own: list[tuple[float, int, int]]
) -> None:
    found = combined(value, own, STILL)
    ends = [value, *(row[0] for row in own)]
    assert min(ends) - 1e-3 <= found.mean[0] <= max(ends) + 1e-3
    assert found.concentration[0] > 0.0


@given(value=rates, own=histories.filter(bool), how=dynamics, data=st.data())
def test_more_successes_of_the_same_rollouts_never_lower_the_mean(
    value: float, own: list[tuple[float, int, int]], how: Dynamics, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(own) - 1))
    reward, rollouts, step = own[place]
    better = list(own)
    better[place] = (data.draw(st.floats(reward, 1.0)), rollouts, step)
    assert combined(value, better, how).mean[0] >= combined(value, own, how).mean[0] - 1e-9


@given(own=st.lists(histories, min_size=1, max_size=6), how=dynamics, data=st.data())
def test_neither_other_prompts_nor_the_order_of_visits_matter(
    own: list[list[tuple[float, int, int]]], how: Dynamics, data: st.DataObject
) -> None:
    known = visits(*own)
    order = np.array(data.draw(st.permutations(range(len(known.owner)))), np.int64)
    shuffled = Visits(
        known.owner[order],
        known.rewards[order],
        known.rollouts[order],
        known.ages[order],
        known.prompts,
    )
    values, size = np.linspace(0.1, 0.9, len(own)), np.full(len(own), 2.0)
    together = combine(values, size, shuffled, how)
    for i, one in enumerate(own):
        alone = combine(values[i : i + 1], size[i : i + 1], visits(one), how)
        assert together.mean[i] == pytest.approx(alone.mean[0], abs=1e-12)
        assert together.concentration[i] == pytest.approx(alone.concentration[0])


def test_the_formula_by_hand() -> None:
    how = Dynamics(weight=0.5, decay=0.5, most=8.0, drift=0.4, slope=1.2)
    found = combined(0.3, [(0.25, 8, 1), (1.0, 8, 2)], how)
    newer, older, kappa = 0.5 * 4.0, 0.25 * 4.0, 1.0
    total = kappa + newer + older
    mixed = logit((kappa * 0.3 + newer * 1.0 + older * 0.25) / total)
    share = (newer + older) / total
    assert logit(found.mean[0]) == pytest.approx(mixed + share * (0.4 + 0.2 * mixed))
    assert found.weight[0] == pytest.approx(newer + older)
    assert found.concentration[0] == pytest.approx((1 - share) * 2.0 + newer + older)


def test_newer_visits_count_more() -> None:
    assert combined(0.5, [(0.0, 8, 1), (1.0, 8, 2)], STILL).mean[0] > 0.5
    assert combined(0.5, [(1.0, 8, 1), (0.0, 8, 2)], STILL).mean[0] < 0.5


def test_one_visit_never_counts_for_more_than_it_may() -> None:
    how = Dynamics(weight=0.5, decay=0.9, most=4.0, drift=0.0, slope=1.0)
    assert combined(0.5, [(1.0, 1_000_000, 1)], how).weight[0] == pytest.approx(3.6, rel=1e-4)


def test_outcomes_of_one_step_are_one_visit() -> None:
    apart = visits([(1.0, 1, 7), (0.0, 3, 7), (0.5, 2, 8)])
    assert apart.ages.tolist() == [2.0, 1.0]
    assert apart.rewards.tolist() == [0.25, 0.5]
    assert apart.rollouts.tolist() == [4.0, 2.0]
    assert visits([(1.0, 1, -1), (0.0, 3, -1)]).ages.tolist() == [2.0, 1.0]


def test_rows_of_a_log_have_what_came_before_them() -> None:
    prompts = np.array([7, 9, 7, 7, 9, 7])
    steps = np.array([0, 0, 1, 1, 1, 2])
    rewards = np.array([0.0, 1.0, 0.5, 1.0, 0.0, 0.25])
    known = earlier_visits(prompts, steps, rewards, np.full(6, 2.0))
    found = {
        (int(owner), float(age)): float(reward)
        for owner, age, reward in zip(known.owner, known.ages, known.rewards, strict=True)
    }
    # The two rows of prompt 7 at step 1 are one visit: neither is the other's past.
    assert found == {(2, 1.0): 0.0, (3, 1.0): 0.0, (4, 1.0): 1.0, (5, 1.0): 0.75, (5, 2.0): 0.0}
    assert known.present.tolist() == [False, False, True, True, True, True]


def test_a_fit_without_repeats_is_the_shared_one() -> None:
    nothing = visits([], [], [])
    found = fit(np.full(3, 0.5), np.full(3, 2.0), nothing, np.full(3, 1.0), np.full(3, 8))
    assert found == SHARED


def _run(
    rng: np.random.Generator, drift: float, spread: float, visits: int = 6
) -> tuple[Visits, np.ndarray]:
    """Outcomes of 400 prompts whose logits move between visits, and what follows."""
    ability = rng.normal(0.0, 1.5, 400)
    prompts, steps, rewards = [], [], []
    for step in range(visits):
        rates = 1.0 / (1.0 + np.exp(-ability))
        prompts.append(np.arange(400))
        steps.append(np.full(400, step))
        rewards.append(rng.binomial(8, rates) / 8)
        ability = ability + drift + spread * rng.normal(size=400)
    keys = np.concatenate(prompts)
    known = earlier_visits(keys, np.concatenate(steps), np.concatenate(rewards), np.full(2400, 8.0))
    return known, np.concatenate(rewards)


def test_a_fit_finds_drift_and_how_fast_outcomes_age() -> None:
    rng = np.random.default_rng(3)
    values, size, rollouts = np.full(2400, 0.5), np.full(2400, 2.0), np.full(2400, 8)
    fits = {}
    for name, drift, spread in (("still", 0.0, 0.0), ("rising", 0.5, 0.0), ("moving", 0.0, 1.5)):
        known, rewards = _run(rng, drift, spread)
        fits[name] = fit(values, size, known, rewards, rollouts)
        ours = log_likelihood(combine(values, size, known, fits[name]), rewards, rollouts)
        shared = log_likelihood(combine(values, size, known, SHARED), rewards, rollouts)
        assert ours.sum() > shared.sum()
    assert fits["rising"].drift > fits["still"].drift + 0.2
    assert fits["moving"].decay < fits["still"].decay
    assert fits["moving"].most < fits["still"].most


def test_likelihood_is_highest_at_the_truth() -> None:
    rewards, rollouts = np.full(3, 0.25), np.full(3, 8)
    found = Combined(np.array([0.1, 0.25, 0.6]), np.full(3, 20.0), np.zeros(3))
    assert log_likelihood(found, rewards, rollouts).argmax() == 1


@given(own=st.lists(histories.filter(bool), min_size=1, max_size=8), how=dynamics)
def test_the_gradient_of_the_likelihood(
    own: list[list[tuple[float, int, int]]], how: Dynamics
) -> None:
    rng = np.random.default_rng(len(own))
    values, size = rng.uniform(0.2, 0.8, len(own)), rng.uniform(1.0, 3.0, len(own))
    good, bad = rng.uniform(1.0, 5.0, (2, len(own)))
    at = module._vector(how)

    def slope(step: np.ndarray) -> float:
        ends = [
            module._Mixture(values, size, visits(*own), at + sign * step).likelihood(good, bad)[0]
            for sign in (1.0, -1.0)
        ]
        return ends[0] - ends[1]

    mixture = module._Mixture(values, size, visits(*own), at)
    smooth = (mixture.mean > 2e-4) & (mixture.mean < 1.0 - 2e-4)
    smooth &= (mixture._mixed > 2e-4) & (mixture._mixed < 1.0 - 2e-4)
    assume(bool(smooth.all()) and bool((np.abs(how.weight * size - 0.25) > 1e-3).all()))
    found = mixture.likelihood(good, bad)[1]
    numeric = [slope(1e-5 * row) / 2e-5 for row in np.eye(5)]
    assert found == pytest.approx(numeric, abs=1e-3, rel=1e-3)


def test_one_visit_without_a_failure_leaves_doubt() -> None:
    tiny = Dynamics(weight=1e-3, decay=0.9, most=1e9, drift=0.0, slope=1.0)
    found = combined(0.5, [(1.0, 8, 1)], tiny)
    assert 0.95 < found.mean[0] < 0.99
