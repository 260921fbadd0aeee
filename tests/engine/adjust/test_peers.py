"""Corrections by peers in the whole server except its gRPC edge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.predictors import report, tiny_predictor
from vzero_server.engine.options import ReadOptions
from vzero_server.engine.predictor import Predictor
from vzero_train.evaluation.metrics import auc

PROMPTS = [f"prompt {i}" for i in range(120)]
# The texts of prompts do not tell which are easy.
EASY = np.random.default_rng(0).random(len(PROMPTS)) < 0.5
CONTEXT, QUERIES = slice(0, 60), slice(60, 120)


@asynccontextmanager
async def fleet(
    tmp_path: Path, model: Path, head: Path, **settings: object
) -> AsyncIterator[Predictor]:
    """One policy with outcomes of half of the prompts, and two peers with outcomes of all."""
    async with tiny_predictor(
        tmp_path, model, head=str(head), peer_refresh=0, **settings
    ) as predictor:
        await report(predictor, "policy", PROMPTS[CONTEXT], EASY[CONTEXT])
        for name in ("peer-1", "peer-2"):
            await report(predictor, name, PROMPTS, EASY)
        yield predictor


async def test_peers_that_agree_with_the_context_correct_values(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        corrected = await predictor.values("policy", PROMPTS[QUERIES])
        assert corrected.peers == 2
        assert auc(EASY[QUERIES], corrected.values.mean) > 0.99
        uncorrected = await predictor.values(
            "policy", PROMPTS[QUERIES], ReadOptions(with_peers=False)
        )
        assert uncorrected.peers == 0
        assert auc(EASY[QUERIES], uncorrected.values.mean) < 0.8
        for prediction in (corrected, uncorrected):
            values = prediction.values
            assert ((values.lower <= values.mean) & (values.mean <= values.upper)).all()


async def test_a_prompt_unknown_to_peers_keeps_its_value(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        mixed = await predictor.values("policy", ["unknown", PROMPTS[60]])
        single = await predictor.values("policy", ["unknown"])
        assert single.peers == 0
        assert mixed.values.mean[0] == pytest.approx(single.values.mean[0], abs=1e-6)


async def test_peers_are_not_used_if_disabled_or_unsupported_or_as_of_a_step(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head, peers=0) as predictor:
        assert (await predictor.values("policy", PROMPTS[QUERIES])).peers == 0
    async with fleet(tmp_path / "again", tiny_model, head) as predictor:
        knn = await predictor.values("policy", PROMPTS[QUERIES], ReadOptions(estimator="knn"))
        assert knn.peers == 0
        assert (
            await predictor.values("policy", PROMPTS[QUERIES], ReadOptions(as_of_step=3))
        ).peers == 0


async def test_later_outcomes_of_peers_are_used(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        before = await predictor.values("policy", ["late"])
        assert before.peers == 0
        await report(predictor, "peer-1", ["late"], np.array([True]))
        await report(predictor, "peer-2", ["late"], np.array([True]))
        after = await predictor.values("policy", ["late"])
        assert after.peers == 2
        assert after.values.mean[0] > before.values.mean[0]


async def test_peers_are_looked_up_again_when_the_context_has_grown_by_a_quarter(
    tmp_path: Path, tiny_model: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[Any] = []
    async with tiny_predictor(tmp_path, tiny_model, head=str(head), peer_refresh=60) as predictor:
        original = predictor._store.find_peers

        async def counting_find_peers(*args: Any) -> Any:
            lookups.append(args)
            return await original(*args)

        monkeypatch.setattr(predictor._store, "find_peers", counting_find_peers)
        for name in ("policy", "peer-1", "peer-2"):
            rows = slice(0, 50) if name == "policy" else slice(0, 120)
            await report(predictor, name, PROMPTS[rows], EASY[rows])
        assert (await predictor.values("policy", PROMPTS[QUERIES])).peers == 2
        await report(predictor, "policy", PROMPTS[50:52], EASY[50:52])
        assert (await predictor.values("policy", PROMPTS[QUERIES])).peers == 2
        assert len(lookups) == 1
        await report(predictor, "policy", PROMPTS[52:80], EASY[52:80])
        assert (await predictor.values("policy", PROMPTS[QUERIES])).peers == 2
        assert len(lookups) == 2


async def test_a_deleted_policy_is_no_longer_a_peer(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        assert (await predictor.values("policy", PROMPTS[QUERIES])).peers == 2
        await predictor._store.delete_policy("peer-1")
        await predictor._store.delete_policy("peer-2")
        assert (await predictor.values("policy", PROMPTS[QUERIES])).peers == 0


async def test_a_ranking_queries_the_log_once(
    tmp_path: Path, tiny_model: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        names = ["policy", "peer-1", "peer-2"]
        prompts = ["unknown", *PROMPTS[58:63]]
        single = [await predictor.values(name, prompts) for name in names]
        calls: list[str] = []

        def counting(name: str) -> Any:
            query = getattr(predictor._store, name)

            async def call(*args: Any) -> Any:
                calls.append(name)
                return await query(*args)

            return call

        for name in ("peer_rewards_by_digest", "histories"):
            monkeypatch.setattr(predictor._store, name, counting(name))
        ranked = await predictor.values_of_many(names, [*prompts, "unknown too"])
        assert sorted(calls) == ["histories", "peer_rewards_by_digest"]
        for expected, prediction in zip(single, ranked, strict=True):
            # The first and last prompt, which no policy knows, are calibrated.
            means = prediction.values.mean[1:6]
            np.testing.assert_allclose(means, expected.values.mean[1:], atol=1e-6)
            assert prediction.peers == expected.peers


async def test_the_first_call_looks_up_its_peers_once(
    tmp_path: Path, tiny_model: Path, head: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[Any] = []
    async with tiny_predictor(tmp_path, tiny_model, head=str(head), peer_refresh=60) as predictor:
        original = predictor._store.find_peers

        async def counting_find_peers(*args: Any) -> Any:
            lookups.append(len(predictor._contexts))
            return await original(*args)

        monkeypatch.setattr(predictor._store, "find_peers", counting_find_peers)
        for name in ("policy", "peer-1"):
            await report(predictor, name, PROMPTS, EASY)
        assert (await predictor.values("policy", PROMPTS[QUERIES])).peers == 1
        # Once, before the context was fitted.
        assert lookups == [0]
