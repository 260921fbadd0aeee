"""Values of one policy, corrected by others: the whole server but its gRPC edge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.test_predictor import running
from tests.outcomes import outcome
from vzero_server.engine.options import ReadOptions
from vzero_server.engine.predictor import Predictor
from vzero_train.evaluation.metrics import auc

PROMPTS = [f"prompt {i}" for i in range(120)]
# Nothing in the text tells the hard prompts from the easy ones.
EASY = np.random.default_rng(0).random(len(PROMPTS)) < 0.5
CONTEXT, ASKED = slice(0, 60), slice(60, 120)


@asynccontextmanager
async def fleet(
    tmp_path: Path, model: Path, head: Path, **settings: object
) -> AsyncIterator[Predictor]:
    """`me` has tried half of the prompts, two others all of them."""
    async with running(tmp_path, model, head=str(head), peer_refresh=0, **settings) as engine:
        await report(engine, "me", PROMPTS[CONTEXT], EASY[CONTEXT])
        for name in ("one", "two"):
            await report(engine, name, PROMPTS, EASY)
        yield engine


async def report(engine: Predictor, name: str, prompts: list[str], rewards: np.ndarray) -> None:
    await engine.update(
        name,
        [
            outcome(f"{prompt}/{reward}", prompt, reward=float(reward), rollouts=1)
            for prompt, reward in zip(prompts, rewards, strict=True)
        ],
    )


async def test_peers_that_agree_with_the_context_are_believed(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as engine:
        found = await engine.values("me", PROMPTS[ASKED])
        assert found.peers == 2
        assert auc(EASY[ASKED], found.values.mean) > 0.99
        alone = await engine.values("me", PROMPTS[ASKED], ReadOptions(with_peers=False))
        assert alone.peers == 0
        assert auc(EASY[ASKED], alone.values.mean) < 0.8
        for answer in (found, alone):
            values = answer.values
            assert ((values.lower <= values.mean) & (values.mean <= values.upper)).all()


async def test_a_prompt_peers_do_not_know_keeps_its_value(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as engine:
        mixed = await engine.values("me", ["unheard of", PROMPTS[60]])
        alone = await engine.values("me", ["unheard of"])
        assert alone.peers == 0
        assert mixed.values.mean[0] == pytest.approx(alone.values.mean[0], abs=1e-6)


async def test_where_nobody_is_asked_nothing_changes(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, peers=0) as engine:
        assert (await engine.values("me", PROMPTS[ASKED])).peers == 0
    async with fleet(tmp_path / "again", tiny_model, head) as engine:
        knn = await engine.values("me", PROMPTS[ASKED], ReadOptions(estimator="knn"))
        assert knn.peers == 0
        assert (await engine.values("me", PROMPTS[ASKED], ReadOptions(as_of_step=3))).peers == 0


async def test_what_peers_report_later_counts(tmp_path: Path, tiny_model: Path, head: Path) -> None:
    async with fleet(tmp_path, tiny_model, head) as engine:
        before = await engine.values("me", ["late"])
        assert before.peers == 0
        await report(engine, "one", ["late"], np.array([True]))
        await report(engine, "two", ["late"], np.array([True]))
        after = await engine.values("me", ["late"])
        assert after.peers == 2
        assert after.values.mean[0] > before.values.mean[0]


async def test_peers_are_asked_again_when_a_context_has_grown_a_lot(
    tmp_path: Path, tiny_model: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    async with running(tmp_path, tiny_model, head=str(head), peer_refresh=60) as engine:
        original = engine._store.find_peers

        async def counted(*args: Any) -> Any:
            asked.append(args)
            return await original(*args)

        monkeypatch.setattr(engine._store, "find_peers", counted)
        for name in ("me", "one", "two"):
            rows = slice(0, 50) if name == "me" else slice(0, 120)
            await report(engine, name, PROMPTS[rows], EASY[rows])
        assert (await engine.values("me", PROMPTS[ASKED])).peers == 2
        await report(engine, "me", PROMPTS[50:52], EASY[50:52])
        assert (await engine.values("me", PROMPTS[ASKED])).peers == 2
        assert len(asked) == 1
        await report(engine, "me", PROMPTS[52:80], EASY[52:80])
        assert (await engine.values("me", PROMPTS[ASKED])).peers == 2
        assert len(asked) == 2


async def test_a_deleted_policy_is_forgotten(tmp_path: Path, tiny_model: Path, head: Path) -> None:
    async with fleet(tmp_path, tiny_model, head) as engine:
        assert (await engine.values("me", PROMPTS[ASKED])).peers == 2
        await engine._store.delete_policy("one")
        await engine._store.delete_policy("two")
        assert (await engine.values("me", PROMPTS[ASKED])).peers == 0


async def test_a_ranking_asks_the_log_once(
    tmp_path: Path, tiny_model: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path, tiny_model, head) as engine:
        names = ["me", "one", "two"]
        asked = ["unheard of", *PROMPTS[58:63]]
        alone = [await engine.values(name, asked) for name in names]
        calls: list[str] = []

        def counted(name: str) -> Any:
            query = getattr(engine._store, name)

            async def call(*args: Any) -> Any:
                calls.append(name)
                return await query(*args)

            return call

        for name in ("peer_rewards_by_digest", "histories"):
            monkeypatch.setattr(engine._store, name, counted(name))
        together = await engine.values_of_many(names, [*asked, "nor this"])
        assert sorted(calls) == ["histories", "peer_rewards_by_digest"]
        for one, many in zip(alone, together, strict=True):
            # Prompts that nobody tried are read jointly.
            np.testing.assert_allclose(many.values.mean[1:6], one.values.mean[1:], atol=1e-6)
            assert many.peers == one.peers


async def test_the_first_call_looks_its_peers_up_once(
    tmp_path: Path, tiny_model: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    async with running(tmp_path, tiny_model, head=str(head), peer_refresh=60) as engine:
        original = engine._store.find_peers

        async def counted(*args: Any) -> Any:
            asked.append(len(engine._contexts))
            return await original(*args)

        monkeypatch.setattr(engine._store, "find_peers", counted)
        for name in ("me", "one"):
            await report(engine, name, PROMPTS, EASY)
        assert (await engine.values("me", PROMPTS[ASKED])).peers == 1
        # Once, before the context had been read.
        assert asked == [0]
