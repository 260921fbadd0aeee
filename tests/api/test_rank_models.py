"""``RankModels`` over gRPC; tests/decisions cover the arithmetic."""

import math

import grpc
import numpy as np
import pytest

from tests.api.calls import Stubs, refused
from tests.outcomes import chunk, outcome
from vzero.v1 import policy_pb2, value_pb2

BAD = grpc.StatusCode.INVALID_ARGUMENT
MISSING = grpc.StatusCode.NOT_FOUND
PROMPTS = ["What is 512 plus 3?", "What is 77 plus 8?"]
DECOMPOSED, PAPER = value_pb2.RANK_MODE_DECOMPOSED, value_pb2.RANK_MODE_PAPER

# Mean reward, tokens of a rollout and price of a token: better models cost more.
MODELS = {"large": (0.9, 100.0, 70.0), "middle": (0.6, 120.0, 14.0), "small": (0.2, 50.0, 1.0)}


def stream(stubs: Stubs, policy_id: str, reward: float, **fields: object) -> None:
    """Report 64 outcomes, some of which are better than others."""
    outcomes = [
        outcome(
            f"{i}", f"What is {i} plus {i % 7}?", reward=min(1.0, reward + i % 2 / 10), **fields
        )
        for i in range(64)
    ]
    stubs.update(chunk(policy_id, outcomes))


@pytest.fixture(scope="module")
def models(module_stubs: Stubs) -> list[str]:
    """Three policies, named with their size, that have outcomes and a price."""
    names = [f"rank/{size}" for size in MODELS]
    for name, (reward, tokens, price) in zip(names, MODELS.values(), strict=True):
        stream(module_stubs, name, reward, tokens=tokens)
        size = name.removeprefix("rank/")
        module_stubs.describe(name, price={"params_ratio": price}, labels={"size": size})
    return names


def order(ranking: value_pb2.Ranking) -> list[str]:
    """The policies of a ranking, best first."""
    return [candidate.policy_id for candidate in ranking.candidates]


def swept(ranking: value_pb2.Ranking) -> list[list[str]]:
    """The policies under each preference, best first."""
    return [[order(ranking)[i] for i in one.positions] for one in ranking.orders]


def test_all_policies_come_back_in_order(stubs: Stubs, models: list[str]) -> None:
    reply = stubs.rank(PROMPTS, policy_ids=models)
    assert len(reply.rankings) == len(PROMPTS)
    assert len({ranking.decision_id for ranking in reply.rankings}) == len(PROMPTS)
    assert all(ranking.decision_id for ranking in reply.rankings)
    costs = {f"rank/{size}": tokens * price for size, (_, tokens, price) in MODELS.items()}
    scaled = {name: (cost - 50.0) / (7000.0 - 50.0) for name, cost in costs.items()}
    for number, ranking in enumerate(reply.rankings):
        assert sorted(order(ranking)) == sorted(models)
        scores = [candidate.score for candidate in ranking.candidates]
        assert scores == sorted(scores, reverse=True)
        for candidate in ranking.candidates:
            name = candidate.policy_id
            assert candidate.eligible
            assert candidate.expected_cost == pytest.approx(costs[name])
            value = stubs.predict(name, PROMPTS).values[number]
            # The policies may have been calibrated against each other.
            assert candidate.value.mean == pytest.approx(value.mean, abs=0.05)
            assert candidate.value.lower <= candidate.value.mean <= candidate.value.upper
            assert candidate.value.basis == "icl"
            expected = 0.7 * candidate.value.mean + 0.3 * (1.0 - scaled[name])
            assert candidate.score == pytest.approx(expected)
        (only,) = ranking.orders
        assert (only.beta, list(only.positions)) == (0.7, [0, 1, 2])
        assert list(only.scores) == scores


@pytest.mark.parametrize("mode", [DECOMPOSED, PAPER])
def test_preferences_lead_from_the_cheapest_to_the_best(
    stubs: Stubs, models: list[str], mode: value_pb2.RankMode
) -> None:
    betas = [1.0, 0.5, 0.0]
    (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=models, betas=betas, mode=mode).rankings
    assert [one.beta for one in ranking.orders] == betas
    by_value = sorted(ranking.candidates, key=lambda one: -one.value.mean)
    by_cost = sorted(ranking.candidates, key=lambda one: one.expected_cost)
    assert swept(ranking)[0] == [one.policy_id for one in by_value]
    assert swept(ranking)[-1] == [one.policy_id for one in by_cost]
    assert list(ranking.orders[0].positions) == [0, 1, 2]
    for one in ranking.orders:
        assert list(one.scores) == sorted(one.scores, reverse=True)
        assert all(0.0 <= score <= 1.0 for score in one.scores)


def test_a_sweep_is_many_rankings_in_one(stubs: Stubs, models: list[str]) -> None:
    betas = [step / 20 for step in range(21)]
    sweep = stubs.rank(PROMPTS, policy_ids=models, betas=betas).rankings
    for number, beta in enumerate(betas):
        single = stubs.rank(PROMPTS, policy_ids=models, betas=[beta]).rankings
        for ranking, swept_ranking in zip(single, sweep, strict=True):
            assert swept(swept_ranking)[number] == order(ranking)
            assert swept_ranking.orders[number].scores == pytest.approx(
                [candidate.score for candidate in ranking.candidates], abs=1e-5
            )


def test_the_paper_mode_predicts_labels(stubs: Stubs, models: list[str]) -> None:
    """If all outcomes cost the same, the label is r_beta = beta r + 1 - beta."""
    same = dict.fromkeys(models, 5.0)
    (ranking,) = stubs.rank(
        PROMPTS[:1], policy_ids=models, betas=[0.5], costs=same, mode=PAPER
    ).rankings
    for candidate in ranking.candidates:
        expected = 0.5 * candidate.value.mean + 0.5
        assert candidate.score == pytest.approx(expected, abs=0.08)
        assert candidate.score != pytest.approx(expected, abs=1e-9), "the head read labels"


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_prior_ignores_labels(
    stubs: Stubs, models: list[str], policy: str, beta: float
) -> None:
    """A policy without outcomes has the same score in both modes."""
    stubs.describe(policy, price={"params_ratio": 3.0})
    fields = {"policy_ids": [*models, policy], "costs": {policy: 10.0}, "betas": [beta]}
    scores = []
    for mode in (DECOMPOSED, PAPER):
        (ranking,) = stubs.rank(PROMPTS[:1], mode=mode, **fields).rankings
        scores.append(next(one.score for one in ranking.candidates if one.policy_id == policy))
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] >= 1.0 - beta


def test_candidates_that_do_not_pass_the_filters_come_last(stubs: Stubs, models: list[str]) -> None:
    large, middle, small = models
    filters = (
        ({"min_value": 0.45}, [small]),
        ({"max_cost": 2000.0}, [large]),
        ({"labels": {"size": "middle"}}, [large, small]),
        ({"labels": {"size": "middle", "region": "eu"}}, models),
        ({"min_value": 0.45, "max_cost": 2000.0}, [large, small]),
        ({"min_value": 0.0, "max_cost": 7000.0}, []),
    )
    for fields, out in filters:
        (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=models, betas=[1.0], **fields).rankings
        assert {one.policy_id for one in ranking.candidates if not one.eligible} == set(out)
        assert set(order(ranking)[3 - len(out) :]) == set(out), fields
        by_value = [name for name in models if name not in out]
        assert order(ranking)[: len(by_value)] == by_value
    assert middle not in out


def test_costs_come_from_prices_or_from_outcomes_or_from_the_caller(
    stubs: Stubs, models: list[str], policy: str
) -> None:
    observed, unknown, unread = (f"{policy}-{kind}" for kind in ("observed", "unknown", "unread"))
    stream(stubs, observed, 0.5, cost=321.0, tokens=7.0)
    stream(stubs, unknown, 0.5)
    stub_price = {"params_ratio": 2.0}
    stream(stubs, unread, 0.5, cost=5.0)
    stubs.describe(unread, price=stub_price)  # but nothing says how many tokens it takes
    names = [models[0], models[1], observed, unknown, unread]
    fields = {"policy_ids": names, "costs": {models[1]: 1.5}, "betas": [0.0]}
    (ranking,) = stubs.rank(PROMPTS[:1], **fields).rankings
    costs = {
        one.policy_id: one.expected_cost if one.HasField("expected_cost") else None
        for one in ranking.candidates
    }
    assert costs == {
        models[0]: pytest.approx(7000.0),
        models[1]: 1.5,
        observed: pytest.approx(321.0),
        unknown: None,
        unread: None,
    }
    # An unknown cost counts as the highest.
    assert order(ranking)[:2] == [models[1], observed]
    assert {one.score for one in ranking.candidates[2:]} == {0.0}
    (ranking,) = stubs.rank(PROMPTS[:1], max_cost=1e9, **fields).rankings
    assert {one.policy_id for one in ranking.candidates if not one.eligible} == {unknown, unread}


def test_costs_that_overflow_are_unknown(stubs: Stubs, policy: str) -> None:
    names = [f"{policy}-a", f"{policy}-b"]
    for name in names:
        stream(stubs, name, 0.5, tokens=1e300)
    stubs.describe(names[0], price={"money": 1e300})
    stubs.describe(names[1], price={"money": 1.0})
    (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=names, betas=[0.0]).rankings
    assert [one.score for one in ranking.candidates] == [1.0, 0.0]
    assert order(ranking) == names[::-1]
    assert not ranking.candidates[1].HasField("expected_cost")


def test_one_policy_is_the_order(stubs: Stubs, models: list[str]) -> None:
    (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=models[:1]).rankings
    assert order(ranking) == models[:1]
    only = ranking.candidates[0]
    assert only.score == pytest.approx(0.7 * only.value.mean + 0.3), "its cost decides nothing"


def test_a_new_model_joins_by_its_outcomes(stubs: Stubs, models: list[str], policy: str) -> None:
    with refused(MISSING):
        stubs.rank(PROMPTS, policy_ids=[*models, policy])
    stream(stubs, policy, 1.0, cost=0.001)
    (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=[*models, policy]).rankings
    assert order(ranking)[0] == policy


def test_peers_can_be_left_out(stubs: Stubs, models: list[str]) -> None:
    (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=models, with_peers=False).rankings
    for candidate in ranking.candidates:
        value = stubs.predict(candidate.policy_id, PROMPTS[:1], with_peers=False).values[0]
        assert candidate.value.mean == pytest.approx(value.mean, abs=1e-5)


def test_policies_without_outcomes_are_ranked_by_their_prior(stubs: Stubs, policy: str) -> None:
    names = [f"{policy}-{number}" for number in range(3)]
    for name in names:
        stubs.describe(name, labels={"new": "yes"})
    (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=names).rankings
    assert sorted(order(ranking)) == names
    assert {one.value.basis for one in ranking.candidates} == {"prior"}
    assert not any(one.HasField("expected_cost") for one in ranking.candidates)
    assert np.ptp([one.score for one in ranking.candidates]) < 1e-5


def test_outcomes_cite_the_ranking(stubs: Stubs, models: list[str], policy: str) -> None:
    (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=models).rankings
    cited = [outcome("1", PROMPTS[0], decision_id=ranking.decision_id)]
    assert stubs.update(chunk(policy, cited))[0].accepted == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"prompts": []}, "prompts"),
        ({"prompts": ["x"] * 257}, "prompts"),
        ({"prompts": ["x", ""]}, "prompts[1]"),
        ({"policy_ids": []}, "policy_ids"),
        ({"fleet": "anything"}, "policy_ids"),
        ({"policy_ids": ["rank/large", "rank/large"]}, "policy_ids"),
        ({"policy_ids": ["rank/large", ""]}, "policy_ids[1]"),
        ({"policy_ids": [str(number) for number in range(257)]}, "policy_ids"),
        ({"betas": [0.5, 1.01]}, "betas[1]"),
        ({"betas": [-0.01]}, "betas[0]"),
        ({"betas": [math.nan]}, "betas[0]"),
        ({"betas": [0.5] * 33}, "betas"),
        ({"costs": {"rank/large": -1.0}}, 'costs["rank/large"]'),
        ({"costs": {"rank/large": math.nan}}, 'costs["rank/large"]'),
        ({"costs": {"unknown": 1.0}}, "costs"),
        ({"mode": 7}, "mode"),
        ({"min_value": 1.5}, "min_value"),
        ({"min_value": math.nan}, "min_value"),
        ({"max_cost": -1.0}, "max_cost"),
        ({"max_cost": math.inf}, "max_cost"),
        ({"labels": {str(number): "" for number in range(65)}}, "labels"),
        ({"estimator": "best"}, "estimator"),
    ],
)
def test_the_bad_field_is_named(
    stubs: Stubs, models: list[str], fields: dict[str, object], named: str
) -> None:
    given = {"prompts": PROMPTS, "policy_ids": models} | fields
    with refused(BAD, named):
        stubs.rank(**given)  # type: ignore[arg-type]


def test_prices_of_two_kinds_cannot_be_compared(
    stubs: Stubs, models: list[str], policy: str
) -> None:
    stream(stubs, policy, 0.5, tokens=10.0)
    stubs.describe(policy, price={"money": 0.002})
    names = [*models[:1], policy]
    with refused(BAD, "policy_ids") as caught:
        stubs.rank(PROMPTS, policy_ids=names)
    message = str(caught[0].details())
    assert "'rank/large' is priced by parameters" in message
    assert repr(policy) in message
    named = stubs.rank(PROMPTS, policy_ids=names, costs={policy: 100.0})
    assert len(named.rankings) == len(PROMPTS)


def test_an_estimator_that_is_not_loaded(stubs: Stubs, models: list[str]) -> None:
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        stubs.rank(PROMPTS, policy_ids=models, estimator="tabpfn")


def test_a_fleet_is_ranked_for_many_prompts(stubs: Stubs, models: list[str]) -> None:
    prompts = [f"What is {i} plus {i}?" for i in range(256)]
    reply = stubs.rank(prompts, policy_ids=models, betas=np.linspace(0, 1, 32).tolist())
    assert len(reply.rankings) == 256
    assert {len(ranking.orders) for ranking in reply.rankings} == {32}


def test_writes_are_visible_in_policy_records_at_once(stubs: Stubs, policy: str) -> None:
    """Policies cached for rankings are never older than an acknowledgement."""

    def cost() -> float:
        (ranking,) = stubs.rank(PROMPTS[:1], policy_ids=[policy]).rankings
        return ranking.candidates[0].expected_cost

    stubs.update(chunk(policy, [outcome("1", cost=8.0)]))
    assert cost() == pytest.approx(8.0)
    stubs.update(chunk(policy, [outcome("2", cost=2.0, tokens=10.0)]))
    assert cost() == pytest.approx(5.0)
    stubs.describe(policy, price={"money": 7.0})
    assert cost() == pytest.approx(70.0)
    stubs.policies.DeletePolicy(policy_pb2.DeletePolicyRequest(policy_id=policy))
    with refused(MISSING):
        cost()
    stubs.update(chunk(policy, [outcome("1", cost=3.0)]))
    assert cost() == pytest.approx(3.0)
