"""Values of a fleet, read jointly: the whole server but its gRPC edge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from tests.engine.test_predictor import running
from tests.outcomes import outcome
from vzero_server.engine.options import ReadOptions
from vzero_server.engine.predictor import Predictor
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import load_checkpoint
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_train.data.columns import Columns
from vzero_train.data.features import prompt_features
from vzero_train.evaluation.routers import Task
from vzero_train.evaluation.value_routers import Contexts, Jointly

KINDS = ("count to {}", "what is the capital of country number {}, please", "prove that {} is odd")
PROMPTS = [KINDS[i % 3].format(i) for i in range(96)]
NEW = [KINDS[i % 3].format(i) for i in range(200, 212)]
NAMES = ("one", "two", "three")
# Each is good at another kind, but for chance.
RATES = np.where(np.arange(96)[:, None] % 3 == np.arange(3), 0.9, 0.4)
REWARDS = np.random.default_rng(0).random((96, 3)) < RATES


@asynccontextmanager
async def fleet(
    tmp_path: Path,
    model: Path,
    head: Path,
    *,
    shared: bool = True,
    rewards: np.ndarray = REWARDS,
    **settings: object,
) -> AsyncIterator[Predictor]:
    """Three policies that have tried the same prompts, or each its own."""
    given = {"head": str(head), "peer_refresh": 0, **settings}
    async with running(tmp_path, model, **given) as engine:
        for column, name in enumerate(NAMES):
            await report(engine, name, "" if shared else f" {name}", rewards[:, column])
        yield engine


async def report(engine: Predictor, name: str, suffix: str, rewards: np.ndarray) -> None:
    await engine.update(
        name,
        [
            outcome(f"{i}{suffix}", PROMPTS[i] + suffix, reward=float(reward), rollouts=1)
            for i, reward in enumerate(rewards)
        ],
    )


async def together(engine: Predictor, prompts: list[str], **fields: object) -> np.ndarray:
    """Values ``[P, n]`` of the fleet."""
    found = await engine.values_of_many(NAMES, prompts, ReadOptions(**fields))  # type: ignore[arg-type]
    return np.stack([one.values.mean for one in found])


async def alone(engine: Predictor, prompts: list[str]) -> np.ndarray:
    """Values ``[P, n]`` of each policy asked by itself."""
    return np.stack([(await engine.values(name, prompts)).values.mean for name in NAMES])


async def test_what_is_served_is_what_is_evaluated(
    tmp_path: Path, tiny_model: Path, tiny_backbone: Backbone, head: Path
) -> None:
    encoder = PromptEncoder(tiny_backbone, (1,))
    columns = Columns.of(prompt_features([*PROMPTS, *NEW], encoder), encoder)
    contexts = Contexts(load_checkpoint(head).head, columns.features)
    task = Task(np.arange(96), REWARDS.astype(float), np.arange(96, 96 + len(NEW)))
    expected = Jointly(contexts, columns.embeddings)(task)
    async with fleet(tmp_path, tiny_model, head) as engine:
        found = await engine.values_of_many(NAMES, NEW)
        served = np.stack([one.values.mean for one in found], axis=1)
        by_themselves = (await alone(engine, NEW)).T
    assert abs(expected - by_themselves).max() > 0.05, "or else nothing was read jointly"
    np.testing.assert_allclose(served, expected, atol=5e-3)
    for one in found:
        values = one.values
        assert (values.lower <= values.mean).all()
        assert (values.mean <= values.upper).all()
        assert (values.lower < values.upper).all()
        assert values.basis == "icl"


async def test_a_policy_by_itself_on_demand(tmp_path: Path, tiny_model: Path, head: Path) -> None:
    async with fleet(tmp_path, tiny_model, head) as engine:
        expected = await alone(engine, NEW)
        np.testing.assert_allclose(
            await together(engine, NEW, with_peers=False), expected, atol=1e-6
        )
        assert abs(await together(engine, NEW) - expected).max() > 0.05
        # Nothing is shared by one policy.
        (only,) = await engine.values_of_many(NAMES[:1], NEW)
        np.testing.assert_allclose(only.values.mean, expected[0], atol=1e-6)


async def test_policies_kept_apart_are_not_read_jointly(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, peers=0) as engine:
        np.testing.assert_allclose(await together(engine, NEW), await alone(engine, NEW), atol=1e-6)


async def test_who_shares_no_prompts_stays_as_it_is(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, shared=False) as engine:
        np.testing.assert_allclose(await together(engine, NEW), await alone(engine, NEW), atol=1e-6)


async def test_prompts_that_peers_know_are_left_to_them(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    """What is hard for one is hard for all, and nothing in the text tells which."""
    hard = np.random.default_rng(1).random((96, 1)) < 0.5
    rewards = np.where(np.random.default_rng(2).random((96, 3)) < 0.1, hard, ~hard)
    prompts = [*NEW, *PROMPTS[:6]]
    async with fleet(tmp_path, tiny_model, head, rewards=rewards) as engine:
        expected = await alone(engine, prompts)
        moved = abs(await together(engine, prompts) - expected).max(0)
    assert moved[: len(NEW)].min() > 1e-3
    assert moved[len(NEW) :].max() < 1e-6


async def test_many_prompts_are_read_as_few_are(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    many = [*NEW, *(f"say {i}" for i in range(400))]
    async with fleet(tmp_path, tiny_model, head) as engine:
        few = await together(engine, NEW)
        np.testing.assert_allclose((await together(engine, many))[:, : len(NEW)], few, atol=1e-5)


async def test_priors_and_other_estimators_stay(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as engine:
        await report(engine, "new", "", np.ones(3))
        found = await engine.values_of_many([*NAMES, "new"], NEW)
        new = await engine.values("new", NEW)
        assert found[3].values.basis == "prior"
        np.testing.assert_allclose(found[3].values.mean, new.values.mean, atol=1e-6)
        np.testing.assert_allclose(
            np.stack([one.values.mean for one in found[:3]]), await together(engine, NEW), atol=1e-6
        )
        knn = await engine.values("one", NEW, ReadOptions(estimator="knn"))
        ranked = await engine.values_of_many(NAMES, NEW, ReadOptions(estimator="knn"))
        np.testing.assert_allclose(ranked[0].values.mean, knn.values.mean, atol=1e-6)


async def test_repeated_prompts_are_no_evidence(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    """One outcome of a prompt left out, the others still tell what it is."""
    async with fleet(tmp_path, tiny_model, head) as engine:
        for column, name in enumerate(NAMES):
            await engine.update(
                name,
                [
                    outcome(f"again {i}", prompt, reward=float(reward), rollouts=1)
                    for i, (prompt, reward) in enumerate(
                        zip(PROMPTS, REWARDS[:, column], strict=True)
                    )
                ],
            )
        np.testing.assert_allclose(await together(engine, NEW), await alone(engine, NEW), atol=1e-6)


async def test_later_calls_have_what_the_first_did_not_wait_for(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, peer_refresh=60.0) as engine:
        expected = await alone(engine, NEW)
        while abs(await together(engine, NEW) - expected).max() < 0.05:
            await asyncio.sleep(0.01)
        # What was fitted stands for a while, whatever is reported.
        for name in NAMES:
            await report(engine, name, " again", np.ones(1))
        changed = await alone(engine, NEW)
        assert abs(await together(engine, NEW) - changed).max() > 0.05
