"""Values combined with the visits of their prompts, and dynamics fitted to visits."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import logit

from vzero_server.values import history as module
from vzero_server.values.history import SHARED, Combined, Dynamics, combine, fit, log_likelihood
from vzero_server.values.visits import Visits, earlier_visits, visits_of_outcomes

NO_DRIFT = Dynamics(weight=0.5, decay=0.8, most=1e9, drift=0.0, slope=1.0)

# Reward, rollouts and step; -1 for an outcome without a step.
Outcomes = list[tuple[float, int, int]]

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


def visits(*by_prompt: Outcomes) -> Visits:
    """The visits of prompts."""
    owner = np.repeat(np.arange(len(by_prompt)), [len(history) for history in by_prompt])
    rows = [outcome for history in by_prompt for outcome in history]
    return visits_of_outcomes(
        owner,
        np.array([row[2] for row in rows], np.int64),
        np.array([row[0] for row in rows], np.float64),
        np.array([row[1] for row in rows], np.float64),
        len(by_prompt),
    )


def combined(value: float, history: Outcomes, parameters: Dynamics) -> Combined:
    """A value of concentration 2 combined with the history of its prompt."""
    return combine(np.array([value]), np.array([2.0]), visits(history), parameters)


def test_split_visits_can_be_joined_again() -> None:
    all_visits = visits([(0.5, 2, 1), (1.0, 1, 3), (0.0, 1, 3)], [], [(1.0, 4, -1)], [])
    joined = Visits.joined(all_visits.split())
    for field in ("owner", "rewards", "rollouts", "ages", "present"):
        np.testing.assert_array_equal(getattr(joined, field), getattr(all_visits, field))
    assert joined.prompts == 4
    single = all_visits.split()[2]
    np.testing.assert_array_equal(single.rewards, [1.0])
    assert Visits.joined([single]) is single


@given(value=rates, parameters=dynamics)
def test_without_history_a_value_is_unchanged(value: float, parameters: Dynamics) -> None:
    result = combined(value, [], parameters)
    assert result.mean.tolist() == [value]
    assert result.concentration.tolist() == [2.0]
    assert result.weight.tolist() == [0.0]


@given(value=rates, history=histories.filter(bool))
def test_without_drift_the_mean_lies_between_the_value_and_the_rewards(
    value: float, history: Outcomes
) -> None:
    result = combined(value, history, NO_DRIFT)
    bounds = [value, *(reward for reward, _, _ in history)]
    assert min(bounds) - 1e-3 <= result.mean[0] <= max(bounds) + 1e-3
    assert result.concentration[0] > 0.0


@given(value=rates, history=histories.filter(bool), parameters=dynamics, data=st.data())
def test_more_successes_in_the_same_rollouts_never_lower_the_mean(
    value: float, history: Outcomes, parameters: Dynamics, data: st.DataObject
) -> None:
    position = data.draw(st.integers(0, len(history) - 1))
    reward, rollouts, step = history[position]
    better = list(history)
    better[position] = (data.draw(st.floats(reward, 1.0)), rollouts, step)
    assert (
        combined(value, better, parameters).mean[0]
        >= combined(value, history, parameters).mean[0] - 1e-9
    )


@given(by_prompt=st.lists(histories, min_size=1, max_size=6), parameters=dynamics, data=st.data())
def test_values_depend_neither_on_other_prompts_nor_on_the_order_of_visits(
    by_prompt: list[Outcomes], parameters: Dynamics, data: st.DataObject
) -> None:
    all_visits = visits(*by_prompt)
    order = np.array(data.draw(st.permutations(range(len(all_visits.owner)))), np.int64)
    shuffled = Visits(
        all_visits.owner[order],
        all_visits.rewards[order],
        all_visits.rollouts[order],
        all_visits.ages[order],
        all_visits.prompts,
    )
    values, size = np.linspace(0.1, 0.9, len(by_prompt)), np.full(len(by_prompt), 2.0)
    all_values = combine(values, size, shuffled, parameters)
    for i, history in enumerate(by_prompt):
        single = combine(values[i : i + 1], size[i : i + 1], visits(history), parameters)
        assert all_values.mean[i] == pytest.approx(single.mean[0], abs=1e-12)
        assert all_values.concentration[i] == pytest.approx(single.concentration[0])


def test_combined_values_follow_the_formula() -> None:
    parameters = Dynamics(weight=0.5, decay=0.5, most=8.0, drift=0.4, slope=1.2)
    result = combined(0.3, [(0.25, 8, 1), (1.0, 8, 2)], parameters)
    newer, older, kappa = 0.5 * 4.0, 0.25 * 4.0, 1.0
    total = kappa + newer + older
    mixed = logit((kappa * 0.3 + newer * 1.0 + older * 0.25) / total)
    share = (newer + older) / total
    assert logit(result.mean[0]) == pytest.approx(mixed + share * (0.4 + 0.2 * mixed))
    assert result.weight[0] == pytest.approx(newer + older)
    assert result.concentration[0] == pytest.approx((1 - share) * 2.0 + newer + older)


def test_newer_visits_have_more_weight() -> None:
    assert combined(0.5, [(0.0, 8, 1), (1.0, 8, 2)], NO_DRIFT).mean[0] > 0.5
    assert combined(0.5, [(1.0, 8, 1), (0.0, 8, 2)], NO_DRIFT).mean[0] < 0.5


def test_the_weight_of_a_single_visit_is_bounded() -> None:
    parameters = Dynamics(weight=0.5, decay=0.9, most=4.0, drift=0.0, slope=1.0)
    assert combined(0.5, [(1.0, 1_000_000, 1)], parameters).weight[0] == pytest.approx(
        3.6, rel=1e-4
    )


def test_outcomes_of_the_same_step_are_one_visit() -> None:
    visited = visits([(1.0, 1, 7), (0.0, 3, 7), (0.5, 2, 8)])
    assert visited.ages.tolist() == [2.0, 1.0]
    assert visited.rewards.tolist() == [0.25, 0.5]
    assert visited.rollouts.tolist() == [4.0, 2.0]
    assert visits([(1.0, 1, -1), (0.0, 3, -1)]).ages.tolist() == [2.0, 1.0]


def test_earlier_visits_of_a_row_are_those_before_its_step() -> None:
    prompts = np.array([7, 9, 7, 7, 9, 7])
    steps = np.array([0, 0, 1, 1, 1, 2])
    rewards = np.array([0.0, 1.0, 0.5, 1.0, 0.0, 0.25])
    earlier = earlier_visits(prompts, steps, rewards, np.full(6, 2.0))
    rewards_by_row_and_age = {
        (int(owner), float(age)): float(reward)
        for owner, age, reward in zip(earlier.owner, earlier.ages, earlier.rewards, strict=True)
    }
    # The two rows of prompt 7 at step 1 are one visit, and neither is earlier than the other.
    assert rewards_by_row_and_age == {
        (2, 1.0): 0.0,
        (3, 1.0): 0.0,
        (4, 1.0): 1.0,
        (5, 1.0): 0.75,
        (5, 2.0): 0.0,
    }
    assert earlier.present.tolist() == [False, False, True, True, True, True]


def test_a_fit_without_repeated_prompts_gives_the_shared_dynamics() -> None:
    no_visits = visits([], [], [])
    fitted = fit(np.full(3, 0.5), np.full(3, 2.0), no_visits, np.full(3, 1.0), np.full(3, 8))
    assert fitted == SHARED


def training_run(
    rng: np.random.Generator, drift: float, noise: float, visits: int = 6
) -> tuple[Visits, np.ndarray]:
    """The earlier visits of each outcome of 400 prompts whose logits change, and its reward."""
    ability = rng.normal(0.0, 1.5, 400)
    prompts, steps, rewards = [], [], []
    for step in range(visits):
        rates = 1.0 / (1.0 + np.exp(-ability))
        prompts.append(np.arange(400))
        steps.append(np.full(400, step))
        rewards.append(rng.binomial(8, rates) / 8)
        ability = ability + drift + noise * rng.normal(size=400)
    keys = np.concatenate(prompts)
    earlier = earlier_visits(
        keys, np.concatenate(steps), np.concatenate(rewards), np.full(2400, 8.0)
    )
    return earlier, np.concatenate(rewards)


def test_a_fit_recovers_drift_and_decay() -> None:
    rng = np.random.default_rng(3)
    values, size, rollouts = np.full(2400, 0.5), np.full(2400, 2.0), np.full(2400, 8)
    fits = {}
    for name, drift, noise in (("constant", 0.0, 0.0), ("rising", 0.5, 0.0), ("moving", 0.0, 1.5)):
        earlier, rewards = training_run(rng, drift, noise)
        fits[name] = fit(values, size, earlier, rewards, rollouts)
        fitted_likelihood = log_likelihood(
            combine(values, size, earlier, fits[name]), rewards, rollouts
        )
        shared_likelihood = log_likelihood(
            combine(values, size, earlier, SHARED), rewards, rollouts
        )
        assert fitted_likelihood.sum() > shared_likelihood.sum()
    assert fits["rising"].drift > fits["constant"].drift + 0.2
    assert fits["moving"].decay < fits["constant"].decay
    assert fits["moving"].most < fits["constant"].most


def test_the_likelihood_is_highest_at_the_true_rate() -> None:
    rewards, rollouts = np.full(3, 0.25), np.full(3, 8)
    candidates = Combined(np.array([0.1, 0.25, 0.6]), np.full(3, 20.0), np.zeros(3))
    assert log_likelihood(candidates, rewards, rollouts).argmax() == 1


@given(by_prompt=st.lists(histories.filter(bool), min_size=1, max_size=8), parameters=dynamics)
def test_the_gradient_of_the_likelihood_equals_finite_differences(
    by_prompt: list[Outcomes], parameters: Dynamics
) -> None:
    rng = np.random.default_rng(len(by_prompt))
    values, size = rng.uniform(0.2, 0.8, len(by_prompt)), rng.uniform(1.0, 3.0, len(by_prompt))
    successes, failures = rng.uniform(1.0, 5.0, (2, len(by_prompt)))
    vector = module._vector(parameters)

    def difference(step: np.ndarray) -> float:
        likelihoods = [
            module._Mixture(values, size, visits(*by_prompt), vector + sign * step).likelihood(
                successes, failures
            )[0]
            for sign in (1.0, -1.0)
        ]
        return likelihoods[0] - likelihoods[1]

    mixture = module._Mixture(values, size, visits(*by_prompt), vector)
    smooth = (mixture.mean > 2e-4) & (mixture.mean < 1.0 - 2e-4)
    smooth &= (mixture._mixed > 2e-4) & (mixture._mixed < 1.0 - 2e-4)
    assume(bool(smooth.all()) and bool((np.abs(parameters.weight * size - 0.25) > 1e-3).all()))
    gradient = mixture.likelihood(successes, failures)[1]
    numeric = [difference(1e-5 * row) / 2e-5 for row in np.eye(5)]
    assert gradient == pytest.approx(numeric, abs=1e-3, rel=1e-3)


def test_a_single_visit_without_failures_does_not_give_certainty() -> None:
    low_weight = Dynamics(weight=1e-3, decay=0.9, most=1e9, drift=0.0, slope=1.0)
    result = combined(0.5, [(1.0, 8, 1)], low_weight)
    assert 0.95 < result.mean[0] < 0.99
