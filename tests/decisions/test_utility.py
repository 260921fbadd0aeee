import numpy as np
import pytest
from scipy.special import betaln
from scipy.stats import betabinom, binom

from vzero_server.decisions import utility
from vzero_server.decisions.utility import Objective, utility_table
from vzero_server.values.beta import inside

MAX_COUNT = 40
RATES = np.array([0.0, 0.03, 0.5, 0.97, 1.0])
A, B = np.array([0.2, 1.0, 3.0, 400.0]), np.array([5.0, 1.0, 0.7, 900.0])


@pytest.mark.parametrize("rollouts", [0, 1, 2, 7, MAX_COUNT])
def test_the_utility_is_the_expected_failures_in_groups_with_a_success(rollouts: int) -> None:
    """Eq. 44: the sum over groups with 1 to B - 1 successes."""
    successes = np.arange(1, rollouts)[:, None]
    expected = (binom.pmf(successes, rollouts, RATES) * (rollouts - successes)).sum(axis=0)
    np.testing.assert_allclose(utility.utility(RATES, MAX_COUNT)[:, rollouts], expected, atol=1e-12)


@pytest.mark.parametrize("rollouts", [0, 1, 2, 7, MAX_COUNT])
def test_the_expected_utility_is_that_of_beta_binomial_groups(rollouts: int) -> None:
    successes = np.arange(1, rollouts)[:, None]
    weights = betabinom.pmf(successes, rollouts, A, B)
    expected = (weights * (rollouts - successes)).sum(axis=0)
    actual = utility.expected_utility(A, B, MAX_COUNT)[:, rollouts]
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)
    both = utility.expected_nonzero_gradient(A, B, MAX_COUNT)[:, rollouts]
    np.testing.assert_allclose(both, weights.sum(axis=0), rtol=1e-9, atol=1e-12)


def test_the_moments_are_quotients_of_beta_functions() -> None:
    rollouts = np.arange(MAX_COUNT + 1)
    moments = np.exp(betaln(A[:, None], B[:, None] + rollouts) - betaln(A, B)[:, None])
    expected = rollouts * ((B / (A + B))[:, None] - moments)
    np.testing.assert_allclose(utility.expected_utility(A, B, MAX_COUNT), expected, atol=1e-9)


@pytest.mark.parametrize("rollouts", [0, 1, 2, 7])
def test_a_gradient_needs_both_outcomes(rollouts: int) -> None:
    successes = np.arange(1, rollouts)[:, None]
    expected = binom.pmf(successes, rollouts, inside(RATES)).sum(axis=0)
    certain = np.full(len(RATES), 1e12)
    table = utility_table(Objective.NONZERO_GRADIENT, RATES, certain, MAX_COUNT)
    np.testing.assert_allclose(table[:, rollouts], expected, atol=1e-10)


@pytest.mark.parametrize("objective", Objective)
def test_tables_start_at_zero_and_never_decrease(objective: Objective) -> None:
    utilities = utility_table(objective, RATES, np.full(len(RATES), 3.0), MAX_COUNT)
    assert utilities.shape == (len(RATES), MAX_COUNT + 1)
    np.testing.assert_array_equal(utilities[:, :2], 0.0)
    assert (np.diff(utilities, axis=1) > -1e-12).all()


def test_a_certain_value_acts_as_a_success_rate() -> None:
    rates = np.array([0.1, 0.6])
    certain = np.full(2, 1e9)
    counts = np.arange(MAX_COUNT + 1)
    successes, failures = rates[:, None] ** counts, (1.0 - rates[:, None]) ** counts
    for objective, exact in (
        (Objective.EXPECTED, utility.utility(rates, MAX_COUNT)),
        (Objective.NONZERO_GRADIENT, np.where(counts < 2, 0.0, 1.0 - failures - successes)),
    ):
        np.testing.assert_allclose(
            utility_table(objective, rates, certain, MAX_COUNT), exact, atol=1e-5
        )
