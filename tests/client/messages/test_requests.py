"""Arguments are checked, spread and cut before anything is sent."""

import itertools
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzero._messages import batches
from vzero._messages.outcomes import build_outcomes
from vzero._messages.predict import predict_requests
from vzero.errors import InvalidArgument
from vzero.v1 import value_pb2


def predict(
    policy_id: str = "p", prompts: object = ("a",), **options: object
) -> list[value_pb2.PredictRequest]:
    return predict_requests(policy_id, prompts, options)  # type: ignore[arg-type]


def violation(error: pytest.ExceptionInfo[InvalidArgument]) -> tuple[str, str]:
    assert error.value.code is None, "found before sending"
    return error.value.violations[0]


def test_predict_builds_one_call() -> None:
    (call,) = predict(
        prompts=np.array(["a", "b"]),
        estimator="knn",
        as_of_step=np.int64(3),
        with_peers=False,
        with_history=False,
    )
    assert not call.with_peers
    assert not call.with_history
    assert list(call.prompts) == ["a", "b"]
    assert call.estimator == "knn"
    assert call.as_of_step == 3
    assert not call.HasField("min_version")


def test_predict_is_cut_by_number_and_by_bytes() -> None:
    calls = predict(prompts=["x"] * 9000)
    assert [len(call.prompts) for call in calls] == [4096, 4096, 808]
    calls = predict(prompts=["x" * 65_536] * 300)
    assert [len(call.prompts) for call in calls] == [128, 128, 44]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"policy_id": ""}, "policy_id"),
        ({"policy_id": "x" * 257}, "policy_id"),
        ({"policy_id": "a\nb"}, "policy_id"),
        ({"policy_id": 7}, "policy_id"),
        ({"prompts": []}, "prompts"),
        ({"prompts": "one"}, "prompts"),
        ({"prompts": 3}, "prompts"),
        ({"prompts": np.array([["a"]])}, "prompts"),
        ({"prompts": ["a", ""]}, "prompts[1]"),
        ({"prompts": ["a", None]}, "prompts[1]"),
        ({"prompts": ["ä" * 32_769]}, "prompts[0]"),
        ({"prompts": ["\ud800"]}, "prompts[0]"),
        ({"estimator": ""}, "estimator"),
        ({"estimator": "e" * 65}, "estimator"),
        ({"estimator": 3}, "estimator"),
        ({"as_of_step": -1}, "as_of_step"),
        ({"min_version": 1.5}, "min_version"),
        ({"min_version": 2**63}, "min_version"),
    ],
)
def test_predict_refuses(arguments: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        predict(**arguments)  # type: ignore[arg-type]
    assert violation(error)[0] == field


def test_outcomes_spread_scalars_and_arrays() -> None:
    built = build_outcomes(
        np.array(["a", "b", "c"]),
        np.array([0.0, 0.5, 1.0], dtype=np.float32),
        rollouts=np.int32(8),
        cost=[1.5, None, 0],
        step=np.array(7),
        tokens=np.array([5, 6, 7]),
        decision_id=["d", None, "e"],
        outcome_ids=["1", "2", "3"],
    )
    assert [outcome.prompt for outcome in built] == ["a", "b", "c"]
    assert [outcome.reward for outcome in built] == [0.0, 0.5, 1.0]
    assert [outcome.rollouts for outcome in built] == [8, 8, 8]
    assert [outcome.HasField("cost") for outcome in built] == [True, False, True]
    assert [outcome.step for outcome in built] == [7, 7, 7]
    assert [outcome.tokens for outcome in built] == [5.0, 6.0, 7.0]
    assert [outcome.decision_id for outcome in built] == ["d", "", "e"]
    assert [outcome.outcome_id for outcome in built] == ["1", "2", "3"]
    assert not built[0].HasField("observed_at")


def test_fresh_ids_differ() -> None:
    built = build_outcomes(["a"] * 100, 1)
    assert len({outcome.outcome_id for outcome in built}) == 100
    assert all(len(outcome.outcome_id) == 32 for outcome in built)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        np.datetime64("2026-01-02T03:04:05"),
        np.array(["2026-01-02T03:04:05"], dtype="datetime64[s]"),
        [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)],
        1767323045,
        1767323045.0,
    ],
)
def test_times_of_all_kinds(moment: object) -> None:
    (built,) = build_outcomes(["a"], 1, observed_at=moment)
    assert built.observed_at.ToDatetime(tzinfo=UTC) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"rewards": [0.5]}, "rewards"),
        ({"rewards": [0.5, np.nan]}, "rewards[1]"),
        ({"rewards": [0.5, 1.01]}, "rewards[1]"),
        ({"rewards": np.array([-0.1, 0])}, "rewards[0]"),
        ({"rewards": [0, None]}, "rewards[1]"),
        ({"rewards": "1"}, "rewards[0]"),
        ({"rewards": np.zeros((2, 1))}, "rewards"),
        ({"rollouts": 0}, "rollouts[0]"),
        ({"rollouts": [1, 1_000_001]}, "rollouts[1]"),
        ({"rollouts": 2.5}, "rollouts[0]"),
        ({"rollouts": np.nan}, "rollouts[0]"),
        ({"cost": [1, -1]}, "cost[1]"),
        ({"cost": np.inf}, "cost[0]"),
        ({"tokens": [1, -1]}, "tokens[1]"),
        ({"tokens": [1.0]}, "tokens"),
        ({"decision_id": ""}, "decision_id[0]"),
        ({"decision_id": ["a", "x" * 129]}, "decision_id[1]"),
        ({"step": [1, 2, 3]}, "step"),
        ({"step": -1}, "step[0]"),
        ({"observed_at": datetime(2026, 1, 1)}, "observed_at[0]"),
        ({"observed_at": "yesterday"}, "observed_at[0]"),
        ({"observed_at": np.datetime64("NaT")}, "observed_at[0]"),
        ({"outcome_ids": ["a"]}, "outcome_ids"),
        ({"outcome_ids": ["a", ""]}, "outcome_ids[1]"),
        ({"outcome_ids": ["a", "x" * 129]}, "outcome_ids[1]"),
        ({"prompts": ["a", ""]}, "prompts[1]"),
    ],
)
def test_outcomes_refuse(arguments: dict[str, object], field: str) -> None:
    columns: dict[str, object] = {"prompts": ["a", "b"], "rewards": 1, **arguments}
    with pytest.raises(InvalidArgument) as error:
        build_outcomes(**columns)  # type: ignore[arg-type]
    assert violation(error)[0] == field
    assert field in str(error.value)


@given(
    sizes=st.lists(st.integers(1, 65_536), min_size=1, max_size=300),
)
def test_chunks_keep_order_and_bounds(sizes: list[int]) -> None:
    outcomes = [
        value_pb2.Outcome(outcome_id=str(i), prompt="x" * size) for i, size in enumerate(sizes)
    ]
    cut = list(batches.update_requests("p", outcomes))
    assert list(itertools.chain(*(chunk.outcomes for chunk in cut))) == outcomes
    assert all(chunk.policy_id == "p" for chunk in cut)
    assert all(1 <= len(chunk.outcomes) <= batches.MAX_ITEMS for chunk in cut)
    assert all(chunk.ByteSize() <= batches.MAX_BYTES + 100_000 for chunk in cut)
