import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzero_server.decisions import ranking
from vzero_server.decisions.costs import normalised_costs
from vzero_server.decisions.ranking import Relabelling

VALUES = np.array([[0.9, 0.6, 0.3], [0.2, 0.6, 0.7]])
COSTS = [30.0, 10.0, 20.0]


def test_higher_preferences_favour_success_over_cost() -> None:
    cost = normalised_costs(COSTS)
    scores = ranking.decomposed_scores(VALUES, cost, [0.0, 0.5, 1.0])
    ranked = ranking.rank(scores, cost, ranking.eligible(VALUES, COSTS))
    assert ranked.order[0].tolist() == [[1, 2, 0], [1, 2, 0]]
    assert ranked.order[2].tolist() == [[0, 1, 2], [2, 1, 0]]
    assert scores[1, 0].tolist() == pytest.approx([0.45, 0.8, 0.4])
    assert ranked.order[1, 0].tolist() == [1, 0, 2]


def test_equal_scores_are_ordered_by_cost() -> None:
    cost = normalised_costs(COSTS)
    scores = np.full((1, 1, 3), 0.5) + np.array([1e-15, 0.0, 2e-15])
    ranked = ranking.rank(scores, cost, np.ones((1, 3), np.bool_))
    assert ranked.order[0, 0].tolist() == [1, 2, 0]


def test_policies_that_are_not_eligible_come_last() -> None:
    cost = normalised_costs(COSTS)
    scores = ranking.decomposed_scores(VALUES, cost, [1.0])
    passed = ranking.eligible(VALUES, COSTS, min_value=0.5, max_cost=25.0)
    assert passed.tolist() == [[False, True, False], [False, True, True]]
    ranked = ranking.rank(scores, cost, passed)
    assert ranked.order[0].tolist() == [[1, 0, 2], [2, 1, 0]]
    none_passed = ranking.eligible(VALUES, [None] * 3, max_cost=25.0, admitted=[True] * 3)
    assert not none_passed.any()
    assert ranking.rank(scores, cost, none_passed).order[0, 0].tolist() == [0, 1, 2]
    assert (
        ranking.eligible(VALUES, COSTS, admitted=[True, False, True])[:, 1].tolist() == [False] * 2
    )


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_relabelled_reward_is_its_score(beta: float, cost: float, reward: float) -> None:
    relabelling = Relabelling.of(beta, cost)
    score = ranking.decomposed_scores(np.array([[reward]]), np.array([cost]), [beta])
    assert relabelling.scale * reward + relabelling.shift == pytest.approx(score[0, 0, 0])
    assert -1e-12 <= score[0, 0, 0] <= 1 + 1e-12
