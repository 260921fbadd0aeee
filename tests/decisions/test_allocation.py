import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vzero_server.decisions import allocation
from vzero_server.decisions.allocation import Allocation, allocate
from vzero_server.decisions.constraints import AllocationError, Constraints, uncertainty_floors
from vzero_server.decisions.utility import Objective, utility_table

SAMPLE_SIZE = 6.0
EXACT = [objective for objective in Objective if objective is not Objective.PAPER]


def solved(
    rates: list[float], constraints: Constraints, objective: Objective, *, exact: bool = False
) -> Allocation:
    mean = np.array(rates)
    return allocate(mean, np.full(len(mean), SAMPLE_SIZE), constraints, objective, exact=exact)


def choices(given_: Constraints, index: int) -> list[int]:
    """All counts of rollouts one prompt may get."""
    floor = 0 if given_.floors is None else int(given_.floors[index])
    lowest = max(given_.minimum, floor)
    counts = [
        count
        for count in range(lowest, given_.maximum + 1)
        if count % given_.multiple_of == 0 and count >= lowest
    ]
    return [0, *counts] if given_.skip and not floor and 0 not in counts else counts


def brute_force(rates: list[float], given_: Constraints, objective: Objective) -> float:
    mean = np.array(rates)
    utilities = utility_table(objective, mean, np.full(len(mean), SAMPLE_SIZE), given_.maximum)
    costs = np.ones(len(mean)) if given_.token_costs is None else given_.token_costs
    best = -1.0
    for counts in itertools.product(*(choices(given_, i) for i in range(len(mean)))):
        if np.dot(counts, costs) <= given_.total:
            best = max(best, float(utilities[np.arange(len(mean)), list(counts)].sum()))
    return best


def paper_greedy(rates: list[float], given_: Constraints) -> np.ndarray:
    """Section 5.5, one rollout at a time."""
    utilities = utility_table(Objective.PAPER, np.array(rates), np.ones(len(rates)), given_.maximum)
    counts = np.full(len(rates), given_.minimum)
    while counts.sum() < given_.total:
        gains = [
            utilities[i, c + 1] - utilities[i, c] if c < given_.maximum else -np.inf
            for i, c in enumerate(counts)
        ]
        counts[int(np.argmax(gains))] += 1
    return counts


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[float], Constraints]:
    rates = draw(
        st.lists(st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.5, 0.9, 1.0]), min_size=1, max_size=4)
    )
    step = draw(st.sampled_from([1, 1, 2, 3]))
    minimum = draw(st.integers(0, 3))
    maximum = draw(st.integers(max(minimum, 2 * step), 9))
    skip = draw(st.booleans())
    floors = np.array(
        draw(st.lists(st.sampled_from([0, 0, 4]), min_size=len(rates), max_size=len(rates)))
    )
    costs = None
    if draw(st.booleans()):
        drawn = st.lists(
            st.sampled_from([0.5, 1.0, 2.5, 7.0]), min_size=len(rates), max_size=len(rates)
        )
        costs = np.array(draw(drawn))
    constraints = Constraints(0, minimum, maximum, step, costs, floors, skip)
    allowed = [choices(constraints, i) for i in range(len(rates))]
    unit = np.ones(len(rates)) if costs is None else costs
    if not all(allowed):
        total = 10
    else:
        lowest = float(sum(c[0] * u for c, u in zip(allowed, unit, strict=True)))
        highest = float(sum(c[-1] * u for c, u in zip(allowed, unit, strict=True)))
        total = draw(st.integers(int(np.ceil(lowest)), int(np.ceil(highest))))
        if costs is None:
            total -= total % step
    return rates, Constraints(total, minimum, maximum, step, costs, floors, skip)


@settings(max_examples=150)
@given(cases(), st.sampled_from(Objective))
def test_allocations_are_allowed_bounded_and_if_exact_optimal(
    case: tuple[list[float], Constraints], objective: Objective
) -> None:
    rates, constraints = case
    if not all(choices(constraints, i) for i in range(len(rates))):
        with pytest.raises(AllocationError):
            solved(rates, constraints, objective)
        return
    best = brute_force(rates, constraints, objective)
    greedy = solved(rates, constraints, Objective.PAPER)
    for exact in (False, True):
        solution = solved(rates, constraints, objective, exact=exact)
        for index, count in enumerate(solution.rollouts):
            assert count in choices(constraints, index)
        assert solution.spent <= constraints.total + 1e-9
        if constraints.token_costs is None and not constraints.skip:
            assert solution.rollouts.sum() == constraints.total
        assert solution.utility <= best + 1e-9 <= solution.upper_bound + 2e-9
        if objective is Objective.UTILITY:
            assert solution.utility >= greedy.utility - 1e-9
    if objective in EXACT:
        assert solution.utility == pytest.approx(best, abs=1e-9)


def test_greedy_is_not_optimal() -> None:
    """40 rollouts over success rates of .05, .5 and .9."""
    rates, constraints = [0.05, 0.5, 0.9], Constraints(40)
    greedy = solved(rates, constraints, Objective.PAPER)
    assert greedy.rollouts.tolist() == [2, 36, 2]
    assert greedy.utility == pytest.approx(18.275, abs=1e-3)
    for exact in (False, True):
        best = solved(rates, constraints, Objective.UTILITY, exact=exact)
        assert best.rollouts.tolist() == [36, 2, 2]
        assert best.utility == best.upper_bound == pytest.approx(29.200, abs=1e-3)
    assert greedy.upper_bound >= best.utility


@settings(max_examples=30)
@given(
    st.lists(st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 1.0]), min_size=1, max_size=12),
    st.integers(0, 3),
    st.floats(0, 1),
)
def test_greedy_equals_the_paper_step_by_step(
    rates: list[float], minimum: int, share: float
) -> None:
    least, most = minimum * len(rates), 40 * len(rates)
    constraints = Constraints(round(least + share * (most - least)), minimum, 40)
    solution = solved(rates, constraints, Objective.PAPER)
    utilities = utility_table(Objective.PAPER, np.array(rates), np.ones(len(rates)), 40)
    expected = paper_greedy(rates, constraints)
    # Rounding may decide between equal prompts; their rollouts and utility stay.
    np.testing.assert_allclose(
        solution.utility, utilities[np.arange(len(rates)), expected].sum(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("objective", EXACT)
def test_large_batches_reach_the_bound(objective: Objective) -> None:
    for seed in range(3):
        rates = np.random.default_rng(seed).random(512).tolist()
        solution = solved(rates, Constraints(8192), objective)
        assert solution.rollouts.sum() == 8192
        assert solution.utility >= 0.995 * solution.upper_bound
        assert solution.utility <= solution.upper_bound


def test_token_costs_count_against_the_total() -> None:
    costs = np.array([100.0, 1000.0])
    constraints = Constraints(10_000, token_costs=costs, minimum=2, maximum=64)
    solution = solved([0.5, 0.5], constraints, Objective.UTILITY, exact=True)
    assert solution.rollouts[0] > solution.rollouts[1] >= 2
    assert solution.spent == pytest.approx(float(solution.rollouts @ costs))
    assert solution.spent <= 10_000


def test_uncertain_prompts_are_not_skipped() -> None:
    floors = uncertainty_floors(np.array([0.0, 0.4]), np.array([0.9, 0.6]), 0.5, 4)
    assert floors.tolist() == [4, 0]
    constraints = Constraints(12, floors=floors, skip=True)
    # The first prompt is worth nothing: all its rollouts fail.
    solution = solved([0.0, 0.5], constraints, Objective.UTILITY)
    assert solution.rollouts.tolist() == [4, 8]
    assert solved([0.0, 0.5], Constraints(12, skip=True), Objective.UTILITY).rollouts[0] == 0


@pytest.mark.parametrize(
    ("constraints", "field", "message"),
    [
        (Constraints(3), "total", "the minima alone take 4"),
        (Constraints(300), "total", "the maxima only take 256"),
        (Constraints(13, multiple_of=2), "total", "not a multiple of 2"),
        (Constraints(16, 5, 7, multiple_of=4), "multiple_of", "no count"),
        (Constraints(16, multiple_of=0), "multiple_of", "at least 1"),
        (Constraints(16, minimum=-1), "minimum", "negative"),
        (Constraints(16, minimum=9, maximum=8), "maximum", "the minimum"),
        (Constraints(16, 0, 0), "maximum", "at least 1"),
        (Constraints(16, floors=np.array([200, 0])), "uncertain_minimum", "no count"),
        (Constraints(16, maximum=4_000_000), "maximum", "too large"),
        (Constraints(16, token_costs=np.array([1.0, 0.0])), "token_costs", "positive"),
        (Constraints(16, token_costs=np.array([1.0, np.nan])), "token_costs", "positive"),
        (Constraints(5, token_costs=np.array([1.0, 2.5])), "total", "minima alone take 7"),
    ],
)
def test_constraints_that_cannot_be_met_are_named(
    constraints: Constraints, field: str, message: str
) -> None:
    with pytest.raises(AllocationError, match=message) as caught:
        solved([0.5, 0.5], constraints, Objective.UTILITY)
    assert caught.value.field == field


def test_an_exact_allocation_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    constraints = Constraints(64 * 4000, token_costs=generator.uniform(50, 900, 64))
    rates = generator.random(64).tolist()
    monkeypatch.setattr(allocation, "_EXACT_STATES", 10_000)
    with pytest.raises(AllocationError) as caught:
        solved(rates, constraints, Objective.UTILITY, exact=True)
    assert caught.value.field == "exact"
    solution = solved(rates, constraints, Objective.UTILITY)
    greedy = solved(rates, constraints, Objective.PAPER)
    assert solution.utility >= max(greedy.utility, 0.98 * solution.upper_bound)
