import pytest

from vzero_server.decisions.costs import expected_cost, normalised_costs


def test_an_expected_cost_is_price_times_tokens_or_the_observed_cost() -> None:
    assert expected_cost(7.0, 100.0, 3.0) == 700.0
    assert expected_cost(7.0, None, 3.0) is None
    assert expected_cost(None, 100.0, 3.0) == 3.0
    assert expected_cost(None, None, None) is None
    assert expected_cost(1e300, 1e300, 3.0) is None, "too large for a float"


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([30.0, 10.0, 20.0], [1.0, 0.0, 0.5]),
        ([5.0, 5.0], [0.0, 0.0]),
        ([5.0], [0.0]),
        ([None, None], [0.0, 0.0]),
        ([None], [0.0]),
        ([None, 5.0], [1.0, 0.0]),
        ([None, 0.0, 4.0], [1.0, 0.0, 1.0]),
    ],
)
def test_costs_are_normalised_over_the_fleet(
    costs: list[float | None], expected: list[float]
) -> None:
    assert normalised_costs(costs).tolist() == expected
