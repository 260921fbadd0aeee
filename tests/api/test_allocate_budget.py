"""``AllocateBudget`` over gRPC; tests/decisions cover the arithmetic."""

import math

import grpc
import numpy as np
import pytest

from tests.api.calls import Stubs, refused
from tests.outcomes import chunk, outcome
from vzero.v1 import value_pb2
from vzero_server.decisions.allocation import Constraints, allocate
from vzero_server.decisions.utility import Objective

BAD = grpc.StatusCode.INVALID_ARGUMENT
# Success rate of each kind of prompt.
KINDS = {"Say the word {}.": 0.9, "What is {} plus 3?": 0.5, "Prove that {} is prime.": 0.1}
PROMPTS = [kind.format(number) for number in range(100, 104) for kind in KINDS]


@pytest.fixture(scope="module")
def trained(module_stubs: Stubs) -> str:
    """A policy with different success rates for different kinds of prompts."""
    outcomes = [
        outcome(f"{kind} {i}", kind.format(i), reward=share + (i % 3 - 1) / 10, step=i // 10)
        for i in range(32)
        for kind, share in KINDS.items()
    ]
    module_stubs.update(chunk("allocate/trained", outcomes))
    # Later calls use the cached prompts and context, so that their values are exactly equal.
    module_stubs.predict("allocate/trained", PROMPTS)
    return "allocate/trained"


@pytest.fixture(scope="module")
def priced(module_stubs: Stubs) -> str:
    """A policy that has a price and no outcome."""
    module_stubs.describe("allocate/priced", price={"params_ratio": 7.0})
    return "allocate/priced"


def test_the_paper_is_the_default_but_for_the_objective(stubs: Stubs, trained: str) -> None:
    reply = stubs.allocate(trained, PROMPTS, 200)
    assert list(reply.values) == list(stubs.predict(trained, PROMPTS).values)
    assert len(reply.rollouts) == len(PROMPTS)
    assert sum(reply.rollouts) == reply.spent == 200
    assert min(reply.rollouts) >= 2
    assert max(reply.rollouts) <= 128
    assert 0.0 < reply.utility <= reply.upper_bound
    assert reply.context.rows == 96
    same = stubs.allocate(
        trained, PROMPTS, 200, minimum=2, maximum=128, objective=value_pb2.OBJECTIVE_EXPECTED
    )
    assert same.rollouts == reply.rollouts
    assert same.decision_id != reply.decision_id


@pytest.mark.parametrize("objective", Objective)
def test_an_objective_is_reached_on_the_values_that_are_returned(
    stubs: Stubs, trained: str, objective: Objective
) -> None:
    number = value_pb2.Objective.Value(f"OBJECTIVE_{objective.name}")
    reply = stubs.allocate(trained, PROMPTS, 100, objective=number)
    expected = allocate(
        np.array([value.mean for value in reply.values]),
        np.array([value.effective_sample_size for value in reply.values]),
        Constraints(100),
        objective,
    )
    assert list(reply.rollouts) == expected.rollouts.tolist()
    assert reply.utility == pytest.approx(expected.utility)
    assert reply.upper_bound == pytest.approx(expected.upper_bound)


def test_objectives_differ(stubs: Stubs, trained: str) -> None:
    replies = {
        objective: stubs.allocate(trained, PROMPTS, 100, objective=objective)
        for objective in value_pb2.Objective.values()
    }
    default = replies[value_pb2.OBJECTIVE_UNSPECIFIED]
    assert default.rollouts == replies[value_pb2.OBJECTIVE_EXPECTED].rollouts
    greedy, best = replies[value_pb2.OBJECTIVE_PAPER], replies[value_pb2.OBJECTIVE_UTILITY]
    assert greedy.utility < 0.99 * best.utility, "the paper's algorithm is greedy"
    assert greedy.upper_bound == pytest.approx(best.upper_bound)
    gradient = np.reshape(replies[value_pb2.OBJECTIVE_NONZERO_GRADIENT].rollouts, (-1, len(KINDS)))
    assert gradient.mean(axis=0).argmin() == 1, "what is half solved shows both outcomes soonest"


def test_the_bounds_of_a_prompt_are_kept(stubs: Stubs, trained: str) -> None:
    reply = stubs.allocate(trained, PROMPTS, 60, minimum=4, maximum=6)
    assert (min(reply.rollouts), max(reply.rollouts), sum(reply.rollouts)) == (4, 6, 60)
    none = stubs.allocate(trained, PROMPTS, 0, minimum=0)
    assert (set(none.rollouts), none.utility, none.upper_bound) == ({0}, 0.0, 0.0)
    all_of_it = stubs.allocate(trained, PROMPTS, 72, minimum=0, maximum=6)
    assert set(all_of_it.rollouts) == {6}


def test_rollouts_come_in_groups(stubs: Stubs, trained: str) -> None:
    reply = stubs.allocate(trained, PROMPTS, 128, minimum=1, maximum=30, multiple_of=8)
    assert set(reply.rollouts) <= {8, 16, 24}
    assert sum(reply.rollouts) == 128


def test_a_budget_of_tokens_is_kept_to(stubs: Stubs, trained: str) -> None:
    costs = [10.0 if i % 2 else 1000.0 for i in range(len(PROMPTS))]
    reply = stubs.allocate(trained, PROMPTS, 20_000, token_costs=costs)
    assert reply.spent == pytest.approx(np.dot(reply.rollouts, costs))
    assert 19_000 < reply.spent <= 20_000
    assert min(reply.rollouts[1::2]) > max(reply.rollouts[::2])


def test_prompts_may_be_skipped(stubs: Stubs, trained: str) -> None:
    reply = stubs.allocate(trained, PROMPTS, 100, minimum=16, skip=True)
    assert 0 in reply.rollouts
    assert {rollouts for rollouts in reply.rollouts if rollouts} & set(range(1, 16)) == set()
    assert sum(reply.rollouts) <= 100
    nothing_fits = stubs.allocate(trained, PROMPTS, 15, minimum=16, skip=True)
    assert set(nothing_fits.rollouts) == {0}


def test_uncertain_prompts_have_a_floor(stubs: Stubs, trained: str, priced: str) -> None:
    widths = [value.upper - value.lower for value in stubs.predict(trained, PROMPTS).values]
    width = (sorted(widths)[-4] + sorted(widths)[-3]) / 2
    reply = stubs.allocate(
        trained, PROMPTS, 60, minimum=3, skip=True, uncertain_minimum=9, uncertain_width=width
    )
    floored = [
        count for count, interval in zip(reply.rollouts, widths, strict=True) if interval >= width
    ]
    assert len(floored) == 3
    assert min(floored) >= 9
    assert 0 in reply.rollouts
    # A prior counts as uncertain under the default threshold.
    prior = stubs.allocate(priced, PROMPTS[:2], 20, uncertain_minimum=10)
    assert list(prior.rollouts) == [10, 10]
    with refused(BAD, "total"):
        stubs.allocate(priced, PROMPTS[:2], 19, uncertain_minimum=10)


def test_the_exact_optimum_can_be_requested(stubs: Stubs, trained: str) -> None:
    costs = [1.0 + 0.37 * i for i in range(len(PROMPTS))]
    reply = stubs.allocate(trained, PROMPTS, 301, token_costs=costs, exact=True)
    assert reply.utility == reply.upper_bound
    quick = stubs.allocate(trained, PROMPTS, 301, token_costs=costs)
    assert quick.utility <= reply.utility <= quick.upper_bound + 1e-9


def test_read_options_select_the_evidence_of_values(stubs: Stubs, trained: str) -> None:
    fields = {"estimator": "knn", "as_of_step": 2, "with_peers": False}
    reply = stubs.allocate(trained, PROMPTS, 100, min_version=96, **fields)
    assert reply.context.newest_step == 2
    assert list(reply.values) == list(stubs.predict(trained, PROMPTS, **fields).values)
    request = value_pb2.AllocateBudgetRequest(
        policy_id=trained, prompts=PROMPTS, total=100, min_version=97
    )
    with refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        stubs.values.AllocateBudget(request, timeout=0.3)


def test_outcomes_cite_the_allocation(stubs: Stubs, policy: str, trained: str) -> None:
    decided = stubs.allocate(trained, PROMPTS, 100).decision_id
    acks = stubs.update(
        chunk(policy, [outcome("1", decision_id=decided), outcome("2", tokens=120.0)])
    )
    assert acks[0].accepted == 2
    cited = chunk(policy, [outcome("3", decision_id="d" * 129)])
    with refused(BAD, "outcomes[0].decision_id"):
        stubs.update(cited)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"total": -1}, "total"),
        ({"total": 23}, "total"),
        ({"total": 12 * 128 + 1}, "total"),
        ({"total": 100, "multiple_of": 8}, "total"),
        ({"total": 12 * 120 + 8, "maximum": 127, "multiple_of": 8}, "total"),
        ({"total": 88, "multiple_of": 8}, "total"),
        ({"minimum": -1}, "minimum"),
        ({"minimum": 4097}, "minimum"),
        ({"maximum": 0}, "maximum"),
        ({"minimum": 9, "maximum": 8}, "maximum"),
        ({"multiple_of": -1}, "multiple_of"),
        ({"multiple_of": 129}, "multiple_of"),
        ({"token_costs": [1.0] * 11}, "token_costs"),
        ({"token_costs": [1.0] * 11 + [0.0]}, "token_costs[11]"),
        ({"token_costs": [math.nan] + [1.0] * 11}, "token_costs[0]"),
        ({"token_costs": [1.0, -2.0] + [1.0] * 10}, "token_costs[1]"),
        ({"token_costs": [math.inf] + [1.0] * 11}, "token_costs[0]"),
        ({"token_costs": [1e308] * 12}, "total"),
        ({"token_costs": [100.0] * 12}, "total"),
        ({"uncertain_minimum": 0}, "uncertain_minimum"),
        ({"uncertain_minimum": 129, "uncertain_width": 0.0}, "uncertain_minimum"),
        ({"uncertain_width": 1.5}, "uncertain_width"),
        ({"uncertain_width": math.nan}, "uncertain_width"),
        ({"objective": 9}, "objective"),
        ({"estimator": "best"}, "estimator"),
        ({"as_of_step": -1}, "as_of_step"),
        ({"min_version": -1}, "min_version"),
        ({"prompts": []}, "prompts"),
        ({"prompts": [*PROMPTS[:11], ""]}, "prompts[11]"),
        ({"prompts": ["x"] * 4096, "maximum": 4096}, "maximum"),
        ({"policy_id": ""}, "policy_id"),
    ],
)
def test_the_bad_field_is_named(
    stubs: Stubs, trained: str, fields: dict[str, object], named: str
) -> None:
    given = {"policy_id": trained, "prompts": PROMPTS, "total": 200} | fields
    with refused(BAD, named):
        stubs.allocate(**given)  # type: ignore[arg-type]


def test_the_error_states_what_the_minima_take(stubs: Stubs, trained: str) -> None:
    with refused(BAD, "total") as caught:
        stubs.allocate(trained, PROMPTS, 23)
    assert "is 23, but the minima alone take 24" in str(caught[0].details())
    with refused(BAD, "total") as caught:
        stubs.allocate(trained, PROMPTS, 73, maximum=6)
    assert "is 73, but the maxima only take 72" in str(caught[0].details())


def test_an_unknown_policy(stubs: Stubs) -> None:
    with refused(grpc.StatusCode.NOT_FOUND):
        stubs.allocate("unknown", PROMPTS, 100)


def test_a_policy_without_outcomes_has_its_prior(stubs: Stubs, priced: str) -> None:
    reply = stubs.allocate(priced, PROMPTS, 120)
    assert {value.basis for value in reply.values} == {"prior"}
    assert sum(reply.rollouts) == 120
    assert reply.context.rows == 0


def test_an_estimator_that_is_not_loaded(stubs: Stubs, trained: str) -> None:
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        stubs.allocate(trained, PROMPTS, 100, estimator="tabpfn")
