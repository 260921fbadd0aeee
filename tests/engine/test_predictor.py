import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.outcomes import outcome, sums
from vzero_server.app import running_predictor
from vzero_server.engine.options import ReadOptions
from vzero_server.engine.predictor import Predictor
from vzero_server.errors import (
    EstimatorNotLoadedError,
    UnknownEstimatorError,
    UnknownPolicyError,
)
from vzero_server.model.backbone import Backbone
from vzero_server.settings import Settings
from vzero_server.storage.opening import open_store


@asynccontextmanager
async def running(folder: Path, model: Path, **settings: object) -> AsyncIterator[Predictor]:
    """The whole server but its gRPC edge, on the small model."""
    store = open_store(folder / "data")
    try:
        loaded = Settings.load(None, backbone=str(model), device="cpu", threads=1, **settings)
        async with running_predictor(loaded, store) as engine:
            yield engine
    finally:
        store.close()


async def test_values_follow_the_outcomes(tmp_path: Path, tiny_model: Path) -> None:
    async with running(tmp_path, tiny_model) as engine:
        await engine.update("good", [outcome(str(i), f"p{i}", reward=1.0) for i in range(20)])
        await engine.update("poor", [outcome(str(i), f"p{i}", reward=0.1) for i in range(20)])
        prompts = ["p3", "unseen", "p3"]
        good = await engine.values("good", prompts, ReadOptions(with_history=False))
        poor = await engine.values("poor", prompts, ReadOptions(with_history=False))
        np.testing.assert_allclose(good.values.mean, 1.0)
        np.testing.assert_allclose(poor.values.mean, 0.1, atol=1e-6)
        assert good.values.basis == "knn"
        assert (good.context.version, good.context.rows) == (20, 20)


async def test_few_rows_are_answered_from_the_prior(tmp_path: Path, tiny_model: Path) -> None:
    async with running(tmp_path, tiny_model) as engine:
        await engine.update("p", sums(7))
        assert (await engine.values("p", ["x"])).values.basis == "prior"
        await engine.update("p", sums(1, start=7))
        assert (await engine.values("p", ["x"])).values.basis == "knn"


async def test_as_of_step_sees_only_earlier_steps(tmp_path: Path, tiny_model: Path) -> None:
    async with running(tmp_path, tiny_model) as engine:
        early = [outcome(f"e{i}", f"p{i}", reward=0.0, step=1) for i in range(10)]
        late = [outcome(f"l{i}", f"p{i}", reward=1.0, step=2) for i in range(10)]
        await engine.update("p", early + late)
        then = await engine.values("p", ["p1"], ReadOptions(as_of_step=1, with_history=False))
        now = await engine.values("p", ["p1"], ReadOptions(with_history=False))
        assert (then.values.mean[0], now.values.mean[0]) == (0.0, 0.5)
        assert (then.context.version, then.context.rows, then.context.newest_step) == (20, 10, 1)
        await engine.update("p", [outcome("more", "p1", reward=1.0, step=1)])
        assert (await engine.values("p", ["p1"], ReadOptions(as_of_step=1))).context.rows == 11
        before = await engine.values("p", ["p1"], ReadOptions(as_of_step=0))
        assert (before.context.rows, before.values.basis) == (0, "prior")


async def test_the_window_is_first_in_first_out(tmp_path: Path, tiny_model: Path) -> None:
    async with running(tmp_path, tiny_model, window_rows=16) as engine:
        await engine.update("p", [outcome(f"old{i}", f"p{i}", reward=0.0) for i in range(10)])
        await engine.values("p", ["x"])
        await engine.update("p", [outcome(f"new{i}", f"q{i}", reward=1.0) for i in range(12)])
        prediction = await engine.values("p", ["x"])
        assert (prediction.context.rows, prediction.context.version) == (16, 22)
        # All 16 are neighbours: four old failures, twelve new successes.
        assert prediction.values.mean[0] == 0.75


async def test_a_restart_gives_the_same_values(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = [o for i in range(5) for o in sums(50, start=50 * i)]
    prompts = [f"What is {i} plus 2?" for i in range(30)]
    async with running(tmp_path, tiny_model) as engine:
        await engine.update("p", outcomes)
        before = await engine.values("p", prompts)
    embedded: list[int] = []
    embed = Backbone.embed

    def counted(self: Backbone, tokens: Sequence[Sequence[int]]) -> "np.ndarray":
        embedded.append(len(tokens))
        return embed(self, tokens)

    monkeypatch.setattr(Backbone, "embed", counted)
    async with running(tmp_path, tiny_model) as engine:
        after = await engine.values("p", prompts)
    np.testing.assert_allclose(after.values.mean, before.values.mean, atol=1e-6)
    # The context's prompts were stored with their embeddings: only warm-up and queries ran.
    assert sum(embedded) <= 1 + len(prompts)


async def test_another_model_embeds_the_context_anew(tmp_path: Path, tiny_model: Path) -> None:
    async with running(tmp_path, tiny_model) as engine:
        await engine.update("p", sums(40))
        await engine.values("p", ["x"])
    # It comes with a head, and so with another estimator.
    async with running(tmp_path, Path("packaged")) as engine:
        prediction = await engine.values("p", ["What is 3 plus 3?"])
        assert (prediction.context.rows, prediction.values.basis) == (40, "icl")


async def test_windows_beyond_the_memory_are_built_again(tmp_path: Path, tiny_model: Path) -> None:
    memory = {"window_cache_bytes": 20_000, "context_cache_bytes": 20_000}
    async with running(tmp_path, tiny_model, **memory) as engine:
        for i in range(6):
            await engine.update(f"p{i}", sums(60))
        for _ in range(2):
            for i in range(6):
                assert (await engine.values(f"p{i}", ["x"])).context.rows == 60
        assert 0 < len(engine._contexts) < 6
        assert 0 < len(engine._contexts._windows) < 6


async def test_concurrent_calls_and_updates_agree(tmp_path: Path, tiny_model: Path) -> None:
    """Every answer rests on at least what was acknowledged before it was asked for."""
    async with running(tmp_path, tiny_model) as engine:
        await engine.update("p", sums(10))
        acknowledged = 10

        async def update() -> None:
            nonlocal acknowledged
            for start in range(10, 200, 10):
                acknowledged = (await engine.update("p", sums(10, start=start))).policy.version

        async def ask() -> None:
            while acknowledged < 200:
                at_least = acknowledged
                context = (await engine.values("p", ["x"])).context
                assert context.rows == context.version >= at_least

        await asyncio.gather(update(), *(ask() for _ in range(4)))


async def test_a_min_version_is_waited_for(tmp_path: Path, tiny_model: Path) -> None:
    async with running(tmp_path, tiny_model) as engine:
        await engine.update("p", sums(10))
        waiting = asyncio.create_task(engine.values("p", ["x"], ReadOptions(min_version=20)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await engine.update("p", sums(10, start=10))
        assert (await waiting).context.version == 20


async def test_reported_prompts_are_embedded_without_being_asked_for(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with running(tmp_path, tiny_model) as engine:
        await engine.update("p", sums(30))
        while True:
            head = await engine._store.policy_version("p")
            _, rows = await engine._store.newest_rows(
                head, 1, after=0, limit=100, depth=100, as_of_step=None
            )
            if all(row.vector is not None for row in rows):
                return
            await asyncio.sleep(0.02)


async def test_what_is_not_there_is_named(tmp_path: Path, tiny_model: Path) -> None:
    async with running(tmp_path, tiny_model) as engine:
        with pytest.raises(UnknownPolicyError, match="'p'"):
            await engine.values("p", ["x"])
        for name in ("icl", "tabpfn", "TabPFN"):
            with pytest.raises(EstimatorNotLoadedError, match=name.lower()):
                await engine.values("p", ["x"], ReadOptions(estimator=name))
        with pytest.raises(UnknownEstimatorError, match="one of auto, icl, knn, tabpfn, not"):
            await engine.values("p", ["x"], ReadOptions(estimator="icm"))


async def test_a_refresh_that_has_just_ended_is_not_waited_for_again(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Calls and updates of one policy in lockstep: each call finds a refresh in every state."""
    async with running(tmp_path, tiny_model) as engine:
        await engine.update("p", sums(10))

        async def ask() -> None:
            for _ in range(150):
                await engine.values("p", ["x"])

        async def update() -> None:
            for start in range(10, 160):
                await engine.update("p", sums(1, start=start))

        await asyncio.gather(update(), *(ask() for _ in range(8)))
        assert not engine._contexts._fitting
        assert not engine._contexts._windows._extending
