"""Read options, in the whole server except its gRPC edge."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tests.engine.predictors import tiny_predictor
from tests.outcomes import outcome
from vzero_server.engine.options import AUTO, DEFAULTS, ReadOptions
from vzero_server.engine.predictor import Prediction, Predictor

ROWS = 60
PROMPTS = [f"prompt {i}" for i in range(ROWS)]
# The texts of prompts do not tell which are easy.
EASY = np.random.default_rng(0).random(ROWS) < 0.5
# Known to the policy and its peers, to the peers alone, and to none.
QUERIES = [PROMPTS[3], PROMPTS[50], "unknown"]

EVERY_COMBINATION = [
    ReadOptions(estimator, as_of_step, min_version, with_peers, with_history)
    for estimator, as_of_step, min_version, with_peers, with_history in product(
        (AUTO, "knn"), (None, 2), (None, 40), (True, False), (True, False)
    )
]


@asynccontextmanager
async def fleet(folder: Path, model: Path, head: Path) -> AsyncIterator[Predictor]:
    """A policy with outcomes of the first 40 prompts in four steps, and two peers with all."""
    async with tiny_predictor(folder, model, head=str(head), peer_refresh=0) as predictor:
        for name, rows in (("policy", 40), ("peer-1", ROWS), ("peer-2", ROWS)):
            outcomes = [
                outcome(str(i), PROMPTS[i], reward=float(EASY[i]), rollouts=1, step=i // 10)
                for i in range(rows)
            ]
            await predictor.update(name, outcomes)
        yield predictor


def assert_equal(prediction: Prediction, expected: Prediction) -> None:
    assert prediction.context == expected.context
    assert prediction.peers == expected.peers
    assert prediction.values.basis == expected.values.basis
    for field in ("mean", "lower", "upper", "effective_sample_size"):
        np.testing.assert_allclose(
            getattr(prediction.values, field), getattr(expected.values, field), atol=1e-6
        )
    history, expected_history = prediction.values.history, expected.values.history
    assert (history is None) == (expected_history is None)
    if history is not None and expected_history is not None:
        np.testing.assert_array_equal(history.rollouts, expected_history.rollouts)
        np.testing.assert_allclose(history.weight, expected_history.weight, atol=1e-6)
        assert history.newest_step == expected_history.newest_step
        assert history.newest_observed_at == expected_history.newest_observed_at


def differ(prediction: Prediction, other: Prediction) -> bool:
    return bool(np.abs(prediction.values.mean - other.values.mean).max() > 1e-4)


async def test_values_equal_values_of_many_of_one_policy_for_every_combination_of_options(
    tmp_path: Path, tiny_model: Path, head: Path
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        for options in EVERY_COMBINATION:
            prediction = await predictor.values("policy", QUERIES, options)
            (expected,) = await predictor.values_of_many(["policy"], QUERIES, options)
            assert_equal(prediction, expected)
        (expected,) = await predictor.values_of_many(["policy"], QUERIES)
        assert_equal(await predictor.values("policy", QUERIES), expected)
        assert_equal(await predictor.values("policy", QUERIES, DEFAULTS), expected)


async def test_every_option_takes_effect(tmp_path: Path, tiny_model: Path, head: Path) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        default = await predictor.values("policy", QUERIES)
        assert (default.values.basis, default.peers, default.context.rows) == ("icl", 2, 40)
        assert default.values.history is not None
        assert default.values.history.rollouts.tolist() == [1, 0, 0]

        knn = await predictor.values("policy", QUERIES, ReadOptions(estimator="KNN"))
        assert knn.values.basis == "knn"
        as_of = await predictor.values("policy", QUERIES, ReadOptions(as_of_step=2))
        assert (as_of.context.rows, as_of.context.newest_step) == (30, 2)
        without_peers = await predictor.values("policy", QUERIES, ReadOptions(with_peers=False))
        assert without_peers.peers == 0
        without_history = await predictor.values("policy", QUERIES, ReadOptions(with_history=False))
        assert without_history.values.history is None
        for prediction in (knn, as_of, without_peers, without_history):
            assert differ(prediction, default)


@pytest.mark.parametrize("with_history", [True, False])
async def test_as_of_step_disables_peers(
    tmp_path: Path, tiny_model: Path, head: Path, with_history: bool
) -> None:
    async with fleet(tmp_path, tiny_model, head) as predictor:
        # Step 3 excludes no outcome of the policy, so that only the peers make a difference.
        newest = await predictor.values("policy", QUERIES, ReadOptions(with_history=with_history))
        as_of = await predictor.values(
            "policy", QUERIES, ReadOptions(as_of_step=3, with_history=with_history)
        )
        without_peers = await predictor.values(
            "policy", QUERIES, ReadOptions(with_peers=False, with_history=with_history)
        )
        assert (newest.peers, as_of.peers) == (2, 0)
        assert differ(newest, as_of)
        assert_equal(as_of, without_peers)
