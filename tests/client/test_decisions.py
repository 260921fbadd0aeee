"""Allocations, rankings, prices and fleets through both clients, against a server."""

from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

import vzero
from vzero import errors
from vzero._messages import policies, rank
from vzero._messages.replies import read_allocation, read_rankings
from vzero.errors import Internal, InvalidArgument
from vzero.v1 import value_pb2
from vzero_server.testing.local_server import LocalServer

KINDS = {"Say the word {}.": 0.9, "What is {} plus 3?": 0.5, "Prove that {} is prime.": 0.1}
PROMPTS = [kind.format(number) for number in range(100, 104) for kind in KINDS]


@pytest.fixture(scope="module")
def client(shared_server: LocalServer) -> Iterator[vzero.Client]:
    with vzero.Client(shared_server.address) as connected:
        connected.wait_ready(60)
        yield connected


@pytest.fixture
async def aio_client(shared_server: LocalServer) -> AsyncIterator[vzero.AsyncClient]:
    async with vzero.AsyncClient(shared_server.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def trained(client: vzero.Client) -> str:
    """A policy with different success rates for different kinds of prompts."""
    prompts = [kind.format(number) for number in range(32) for kind in KINDS]
    rewards = list(KINDS.values()) * 32
    client.update("decide/trained", prompts, rewards, rollouts=10, step=3)
    return "decide/trained"


@pytest.fixture(scope="module")
def models(client: vzero.Client) -> list[str]:
    """Three policies, of which better ones cost more."""
    names = [f"decide/{size}" for size in ("large", "middle", "small")]
    prompts = [f"What is {i} plus {i % 7}?" for i in range(64)]
    for name, reward, billions in zip(names, (0.9, 0.6, 0.2), (70, 14, 1), strict=True):
        client.update(name, prompts, reward, rollouts=10, tokens=np.full(64, 100.0))
        client.update_policy(name, price=vzero.Price(billions, "params"), labels={"size": name[7:]})
    return names


def test_allocate(client: vzero.Client, trained: str) -> None:
    allocation = client.allocate(trained, PROMPTS, 100)
    assert allocation.rollouts.dtype == np.int64
    assert len(allocation) == len(PROMPTS)
    assert allocation.rollouts.sum() == allocation.spent == 100
    assert allocation.rollouts.min() >= 2
    assert 0 < allocation.utility <= allocation.upper_bound
    assert allocation.version == 96
    np.testing.assert_array_equal(allocation.values, client.predict(trained, PROMPTS))


def test_every_argument_of_allocate_arrives(client: vzero.Client, trained: str) -> None:
    allocation = client.allocate(
        trained,
        np.array(PROMPTS),
        np.int64(4000),
        minimum=4,
        maximum=40,
        multiple_of=4,
        objective="nonzero_gradient",
        token_costs=np.full(len(PROMPTS), 10.0),
        skip=True,
        uncertain_minimum=8,
        uncertain_width=0.0,
        exact=True,
        estimator="knn",
        as_of_step=3,
        min_version=96,
        with_peers=False,
        with_history=False,
    )
    assert allocation.spent == 10 * allocation.rollouts.sum() <= 4000
    assert set(allocation.rollouts) <= set(range(8, 41, 4))
    assert set(allocation.values.basis) == {"KNN"}
    assert allocation.utility == allocation.upper_bound
    expensive = client.allocate(trained, PROMPTS, 4000, token_costs=100)
    assert expensive.rollouts.sum() <= 40


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"policy_id": ""}, "policy_id"),
        ({"prompts": []}, "prompts"),
        ({"prompts": ["x"] * 4097}, "prompts"),
        ({"total": -1}, "total"),
        ({"total": 1.5}, "total"),
        ({"minimum": -1}, "minimum"),
        ({"maximum": 0}, "maximum"),
        ({"multiple_of": 0}, "multiple_of"),
        ({"objective": "best"}, "objective"),
        ({"objective": None}, "objective"),
        ({"token_costs": [1.0]}, "token_costs"),
        ({"token_costs": [1.0, 0.0]}, "token_costs[1]"),
        ({"token_costs": [np.nan, 1.0]}, "token_costs[0]"),
        ({"uncertain_minimum": 0}, "uncertain_minimum"),
        ({"uncertain_width": 1.01}, "uncertain_width"),
        ({"estimator": ""}, "estimator"),
        ({"as_of_step": -1}, "as_of_step"),
        ({"min_version": -1}, "min_version"),
    ],
)
def test_allocate_validates_before_sending(arguments: dict[str, object], field: str) -> None:
    call = {"policy_id": "p", "prompts": ["a", "b"], "total": 8, **arguments}
    with vzero.Client("127.0.0.1:1") as client, pytest.raises(InvalidArgument) as error:
        client.allocate(**call)  # type: ignore[arg-type]
    assert error.value.code is None
    assert error.value.violations[0][0] == field


def test_constraints_that_cannot_be_met_are_named(client: vzero.Client, trained: str) -> None:
    with pytest.raises(InvalidArgument, match="minima alone take 24") as error:
        client.allocate(trained, PROMPTS, 23)
    assert error.value.violations[0][0] == "total"
    with pytest.raises(errors.NotFound):
        client.allocate("decide/unknown", PROMPTS, 100)


def test_rank(client: vzero.Client, models: list[str]) -> None:
    betas = [0.7, 0.0, 1.0]
    rankings = client.rank(["What is 9 plus 9?", "What is 8 plus 8?"], policies=models, betas=betas)
    assert len(rankings) == 2
    assert rankings[0].decision_id != rankings[1].decision_id
    for ranking in rankings:
        assert len(ranking) == 3
        assert ranking.best == ranking.policies[0]
        assert sorted(ranking.policies) == sorted(models)
        assert ranking.under(0.7) == ranking.policies
        by_cost = np.argsort(ranking.expected_cost)
        assert ranking.under(0.0) == tuple(ranking.policies[i] for i in by_cost)
        by_value = np.argsort(-ranking.mean)
        assert ranking.under(1.0) == tuple(ranking.policies[i] for i in by_value)
        assert ranking.eligible.all()
        np.testing.assert_allclose(sorted(ranking.expected_cost), [100.0, 1400.0, 7000.0])
        np.testing.assert_array_equal(ranking.order_scores[0], ranking.scores)
        assert (np.diff(ranking.order_scores, axis=1) <= 0).all()
        assert (ranking.lower <= ranking.mean).all()
        assert (ranking.mean <= ranking.upper).all()
        assert (ranking.effective_sample_size > 0).all()
        assert set(ranking.basis) == {"ICL"}
        with pytest.raises(InvalidArgument, match="beta must be one of"):
            ranking.under(0.3)


def test_every_argument_of_rank_arrives(client: vzero.Client, models: list[str]) -> None:
    (ranking,) = client.rank(
        ["What is 9 plus 9?"],
        policies=models,
        betas=np.linspace(0, 1, 5),
        costs={models[0]: 3.0},
        mode="paper",
        min_value=0.0,
        max_cost=50.0,
        labels={"size": "large"},
        estimator="knn",
        with_peers=False,
        with_history=False,
    )
    assert ranking.betas.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert ranking.best == models[0]
    assert ranking.eligible.tolist() == [True, False, False]
    assert ranking.expected_cost[0] == 3.0
    assert set(ranking.basis) == {"KNN"}


def test_an_unknown_cost_is_nan(client: vzero.Client, trained: str) -> None:
    (ranking,) = client.rank(PROMPTS[:1], policies=[trained], betas=1)
    assert np.isnan(ranking.expected_cost).all()


def test_more_prompts_than_a_call_takes(
    client: vzero.Client, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [f"What is {i} plus {i}?" for i in range(10)]
    whole = client.rank(prompts, policies=models)
    monkeypatch.setattr(rank, "MAX_PROMPTS", 4)
    cut = client.rank(prompts, policies=models)
    assert [ranking.policies for ranking in cut] == [ranking.policies for ranking in whole]
    assert len({ranking.decision_id for ranking in cut}) == 10


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"prompts": []}, "prompts"),
        ({"policies": None}, "policies"),
        ({"fleet": "f"}, "policies"),
        ({"policies": []}, "policies"),
        ({"policies": "a"}, "policies"),
        ({"policies": ["a", "a"]}, "policies"),
        ({"policies": ["a", ""]}, "policies[1]"),
        ({"policies": [str(i) for i in range(257)]}, "policies"),
        ({"policies": None, "fleet": ""}, "fleet"),
        ({"betas": 1.5}, "betas[0]"),
        ({"betas": [0.5, np.nan]}, "betas[1]"),
        ({"betas": []}, "betas"),
        ({"betas": [0.5] * 33}, "betas"),
        ({"costs": {"a": -1}}, "costs['a']"),
        ({"mode": "fast"}, "mode"),
        ({"min_value": 2}, "min_value"),
        ({"max_cost": np.inf}, "max_cost"),
        ({"labels": {"a": 1}}, "labels"),
        ({"estimator": ""}, "estimator"),
    ],
)
def test_rank_validates_before_sending(arguments: dict[str, object], field: str) -> None:
    call = {"prompts": ["x"], "policies": ["a", "b"], **arguments}
    with vzero.Client("127.0.0.1:1") as client, pytest.raises(InvalidArgument) as error:
        client.rank(**call)  # type: ignore[arg-type]
    assert error.value.code is None
    assert error.value.violations[0][0] == field


def test_prices_and_labels(client: vzero.Client) -> None:
    created = client.update_policy("decide/new", price=vzero.Price(7, "params"), labels={"a": "b"})
    assert created == client.policy("decide/new")
    assert (created.version, created.price, created.labels) == (
        1,
        vzero.Price(7.0, "params"),
        {"a": "b"},
    )
    assert (created.mean_cost, created.mean_tokens) == (None, None)
    client.update("decide/new", ["x", "y"], 1, cost=[4.0, None], tokens=[10, 20], decision_id="d")
    changed = client.update_policy("decide/new", price=vzero.Price(2e-6))
    assert (changed.price, changed.labels) == (vzero.Price(2e-6, "money"), {"a": "b"})
    assert (changed.mean_cost, changed.mean_tokens) == (4.0, 15.0)
    changed = client.update_policy("decide/new", labels={})
    assert (changed.price, changed.labels) == (vzero.Price(2e-6, "money"), {})
    assert client.update_policy("decide/new", price=None).price is None


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "price"),
        ({"price": vzero.Price(-1.0)}, "price"),
        ({"price": vzero.Price(1.0, "euro")}, "price"),  # type: ignore[arg-type]
        ({"price": 3.0}, "price"),
        ({"labels": {1: "a"}}, "labels"),
    ],
)
def test_bad_prices_and_labels(arguments: dict[str, object], field: str) -> None:
    with vzero.Client("127.0.0.1:1") as client, pytest.raises(InvalidArgument) as error:
        client.update_policy("p", **arguments)  # type: ignore[arg-type]
    assert error.value.violations[0][0] == field
    assert repr(vzero.KEEP) == "KEEP"


def test_fleets(client: vzero.Client, models: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stored = client.update_fleet("decide/fleet", models)
    assert stored == vzero.Fleet("decide/fleet", tuple(models)) == client.fleet("decide/fleet")
    client.update_fleet("decide/other", models[1:])
    monkeypatch.setattr(policies, "PAGE_SIZE", 1)
    listed = [fleet for fleet in client.fleets() if fleet.name.startswith("decide/")]
    assert [fleet.name for fleet in listed] == ["decide/fleet", "decide/other"]
    (ranking,) = client.rank(["x"], fleet="decide/other")
    assert sorted(ranking.policies) == sorted(models[1:])
    for name in ("decide/fleet", "decide/other"):
        client.delete_fleet(name)
    with pytest.raises(errors.NotFound, match="decide/fleet") as error:
        client.rank(["x"], fleet="decide/fleet")
    assert error.value.reason == "UNKNOWN_FLEET"
    with pytest.raises(errors.NotFound):
        client.update_fleet("decide/fleet", ["decide/unknown"])
    with pytest.raises(InvalidArgument):
        client.fleet("")


def test_a_stream_cites_its_decision(client: vzero.Client, models: list[str]) -> None:
    (ranking,) = client.rank(["What is 9 plus 9?"], policies=models)
    with client.stream("decide/streamed") as stream:
        stream.add("x", 1, tokens=12, decision_id=ranking.decision_id)
        with pytest.raises(InvalidArgument, match="tokens"):
            stream.add("x", 1, tokens=-1)
        with pytest.raises(InvalidArgument, match="decision_id"):
            stream.add("x", 1, decision_id="")
    assert client.policy("decide/streamed").mean_tokens == 12.0


async def test_asyncio(aio_client: vzero.AsyncClient, models: list[str], trained: str) -> None:
    allocation = await aio_client.allocate(trained, PROMPTS, 100, objective="PAPER")
    assert allocation.rollouts.sum() == 100
    stored = await aio_client.update_fleet("decide/aio", models)
    assert stored == await aio_client.fleet("decide/aio")
    assert stored in await aio_client.fleets()
    (ranking,) = await aio_client.rank(["What is 9 plus 9?"], fleet="decide/aio", betas=[0, 1])
    assert ranking.best == models[2]
    async with aio_client.stream("decide/aio-streamed") as stream:
        await stream.add("x", 1, tokens=3, decision_id=ranking.decision_id)
    priced = await aio_client.update_policy("decide/aio-streamed", price=vzero.Price(2.0))
    assert (priced.mean_tokens, priced.price) == (3.0, vzero.Price(2.0))
    await aio_client.delete_fleet("decide/aio")
    with pytest.raises(errors.NotFound):
        await aio_client.fleet("decide/aio")


def test_wrong_numbers_of_answers() -> None:
    with pytest.raises(Internal):
        read_allocation(value_pb2.AllocateBudgetResponse(rollouts=[1]), 2)
    with pytest.raises(Internal):
        read_rankings(value_pb2.RankModelsResponse(), 1)
