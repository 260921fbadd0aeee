"""Predictors on the small model: the whole server except its gRPC edge."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.engine.predictors import tiny_predictor
from tests.outcomes import outcome, sums
from vzero_server.engine.options import ReadOptions
from vzero_server.errors import (
    EstimatorNotLoadedError,
    UnknownEstimatorError,
    UnknownPolicyError,
)
from vzero_server.model.backbone import Backbone


async def test_values_follow_the_outcomes(tmp_path: Path, tiny_model: Path) -> None:
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        await predictor.update("good", [outcome(str(i), f"p{i}", reward=1.0) for i in range(20)])
        await predictor.update("poor", [outcome(str(i), f"p{i}", reward=0.1) for i in range(20)])
        prompts = ["p3", "unseen", "p3"]
        good = await predictor.values("good", prompts, ReadOptions(with_history=False))
        poor = await predictor.values("poor", prompts, ReadOptions(with_history=False))
        np.testing.assert_allclose(good.values.mean, 1.0)
        np.testing.assert_allclose(poor.values.mean, 0.1, atol=1e-6)
        assert good.values.basis == "knn"
        assert (good.context.version, good.context.rows) == (20, 20)


async def test_fewer_than_min_rows_are_answered_by_the_prior(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        await predictor.update("p", sums(7))
        assert (await predictor.values("p", ["x"])).values.basis == "prior"
        await predictor.update("p", sums(1, start=7))
        assert (await predictor.values("p", ["x"])).values.basis == "knn"


async def test_as_of_step_excludes_later_steps(tmp_path: Path, tiny_model: Path) -> None:
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        early = [outcome(f"e{i}", f"p{i}", reward=0.0, step=1) for i in range(10)]
        late = [outcome(f"l{i}", f"p{i}", reward=1.0, step=2) for i in range(10)]
        await predictor.update("p", early + late)
        earlier = await predictor.values("p", ["p1"], ReadOptions(as_of_step=1, with_history=False))
        newest = await predictor.values("p", ["p1"], ReadOptions(with_history=False))
        assert (earlier.values.mean[0], newest.values.mean[0]) == (0.0, 0.5)
        context = earlier.context
        assert (context.version, context.rows, context.newest_step) == (20, 10, 1)
        await predictor.update("p", [outcome("more", "p1", reward=1.0, step=1)])
        assert (await predictor.values("p", ["p1"], ReadOptions(as_of_step=1))).context.rows == 11
        empty = await predictor.values("p", ["p1"], ReadOptions(as_of_step=0))
        assert (empty.context.rows, empty.values.basis) == (0, "prior")


async def test_the_window_drops_the_oldest_outcomes(tmp_path: Path, tiny_model: Path) -> None:
    async with tiny_predictor(tmp_path, tiny_model, window_rows=16) as predictor:
        await predictor.update("p", [outcome(f"old{i}", f"p{i}", reward=0.0) for i in range(10)])
        await predictor.values("p", ["x"])
        await predictor.update("p", [outcome(f"new{i}", f"q{i}", reward=1.0) for i in range(12)])
        prediction = await predictor.values("p", ["x"])
        assert (prediction.context.rows, prediction.context.version) == (16, 22)
        # All 16 are neighbours: four old failures, twelve new successes.
        assert prediction.values.mean[0] == 0.75


async def test_a_restart_gives_the_same_values(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = sums(250)
    prompts = [f"What is {i} plus 2?" for i in range(30)]
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        await predictor.update("p", outcomes)
        before = await predictor.values("p", prompts)
    embedded_counts: list[int] = []
    embed = Backbone.embed

    def counting_embed(self: Backbone, tokens: Sequence[Sequence[int]]) -> "np.ndarray":
        embedded_counts.append(len(tokens))
        return embed(self, tokens)

    monkeypatch.setattr(Backbone, "embed", counting_embed)
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        after = await predictor.values("p", prompts)
    np.testing.assert_allclose(after.values.mean, before.values.mean, atol=1e-6)
    # The embeddings of the context are read from the log: only warm-up and queries are embedded.
    assert sum(embedded_counts) <= 1 + len(prompts)


async def test_another_model_embeds_the_context_again(tmp_path: Path, tiny_model: Path) -> None:
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        await predictor.update("p", sums(40))
        await predictor.values("p", ["x"])
    # The packaged model has a head, and so another estimator.
    async with tiny_predictor(tmp_path, Path("packaged")) as predictor:
        prediction = await predictor.values("p", ["What is 3 plus 3?"])
        assert (prediction.context.rows, prediction.values.basis) == (40, "icl")


async def test_contexts_and_windows_beyond_the_cache_sizes_are_built_again(
    tmp_path: Path, tiny_model: Path
) -> None:
    cache_sizes = {"window_cache_bytes": 20_000, "context_cache_bytes": 20_000}
    async with tiny_predictor(tmp_path, tiny_model, **cache_sizes) as predictor:
        for i in range(6):
            await predictor.update(f"p{i}", sums(60))
        for _ in range(2):
            for i in range(6):
                assert (await predictor.values(f"p{i}", ["x"])).context.rows == 60
        assert 0 < len(predictor._contexts) < 6
        assert 0 < len(predictor._contexts._windows) < 6


async def test_values_rest_on_every_update_acknowledged_before_the_call(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Under concurrent calls and updates."""
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        await predictor.update("p", sums(10))
        acknowledged = 10

        async def update() -> None:
            nonlocal acknowledged
            for start in range(10, 200, 10):
                acknowledged = (await predictor.update("p", sums(10, start=start))).policy.version

        async def predict() -> None:
            while acknowledged < 200:
                min_version = acknowledged
                context = (await predictor.values("p", ["x"])).context
                assert context.rows == context.version >= min_version

        await asyncio.gather(update(), *(predict() for _ in range(4)))


async def test_a_call_with_min_version_waits_for_that_version(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        await predictor.update("p", sums(10))
        call = asyncio.create_task(predictor.values("p", ["x"], ReadOptions(min_version=20)))
        await asyncio.sleep(0.05)
        assert not call.done()
        await predictor.update("p", sums(10, start=10))
        assert (await call).context.version == 20


async def test_prompts_of_outcomes_are_embedded_in_the_background(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        await predictor.update("p", sums(30))
        while True:
            policy = await predictor._store.policy_version("p")
            _, rows = await predictor._store.newest_rows(
                policy, 1, after=0, limit=100, embedded_rows=100, as_of_step=None
            )
            if all(row.vector is not None for row in rows):
                return
            await asyncio.sleep(0.02)


async def test_unknown_policies_and_estimators_are_named_in_errors(
    tmp_path: Path, tiny_model: Path
) -> None:
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        with pytest.raises(UnknownPolicyError, match="'p'"):
            await predictor.values("p", ["x"])
        for name in ("icl", "tabpfn", "TabPFN"):
            with pytest.raises(EstimatorNotLoadedError, match=name.lower()):
                await predictor.values("p", ["x"], ReadOptions(estimator=name))
        with pytest.raises(UnknownEstimatorError, match="one of auto, icl, knn, tabpfn, not"):
            await predictor.values("p", ["x"], ReadOptions(estimator="icm"))


async def test_no_call_waits_for_a_fit_that_has_just_ended(
    tmp_path: Path, tiny_model: Path
) -> None:
    """Calls and updates of one policy in lockstep, so that calls meet fits in every state."""
    async with tiny_predictor(tmp_path, tiny_model) as predictor:
        await predictor.update("p", sums(10))

        async def predict() -> None:
            for _ in range(150):
                await predictor.values("p", ["x"])

        async def update() -> None:
            for start in range(10, 160):
                await predictor.update("p", sums(1, start=start))

        await asyncio.gather(update(), *(predict() for _ in range(8)))
        assert not predictor._contexts._fitting
        assert not predictor._contexts._windows._extending
