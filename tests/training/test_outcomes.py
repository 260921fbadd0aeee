"""Files of outcomes: their columns, pools, and errors."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from vzero_train.data.outcomes import OutcomesError, load_outcomes, pools

BENCHMARKS = 4


def write(path: Path, **changes: object) -> Path:
    """Six policies on 40 prompts of each of four benchmarks; None drops a column."""
    count = 6 * BENCHMARKS * 40
    index = np.arange(count)
    columns: dict[str, object] = {
        "prompt": [f"prompt {i % (BENCHMARKS * 40)}" for i in index],
        "policy": [f"policy {i // (BENCHMARKS * 40)}" for i in index],
        "benchmark": [f"b{i % BENCHMARKS}" for i in index],
        "source": ["made up"] * count,
        "reward": np.random.default_rng(0).random(count).astype(np.float32),
    }
    columns.update(changes)
    kept = {name: column for name, column in columns.items() if column is not None}
    parquet.write_table(pa.table(kept), path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "outcomes.parquet")


def test_pools_hold_one_policy_and_each_prompt_once(path: Path) -> None:
    outcomes = load_outcomes(path)
    assert len(outcomes.texts) == BENCHMARKS * 40
    all_pools = pools(outcomes, 40)
    assert len(all_pools) == 6 * (BENCHMARKS + 1)
    for pool in all_pools:
        assert len(set(pool.prompt)) == len(pool)
        assert len(pool) == (160 if pool.benchmark == "made up/*" else 40)


@pytest.mark.parametrize("column", ["prompt", "policy", "reward"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "outcomes.parquet", **{column: None})
    with pytest.raises(OutcomesError, match=f"lacks the columns {column}"):
        load_outcomes(path)


@pytest.mark.parametrize("reward", [-0.5, 1.01, float("nan")])
def test_a_reward_outside_the_interval_is_named(tmp_path: Path, reward: float) -> None:
    rewards = np.full(6 * BENCHMARKS * 40, 0.5, dtype=np.float32)
    rewards[7] = reward
    path = write(tmp_path / "outcomes.parquet", reward=rewards)
    with pytest.raises(OutcomesError, match="of row 7"):
        load_outcomes(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutcomesError, match="no such file"):
        load_outcomes(tmp_path / "none.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("not a table")
    with pytest.raises(OutcomesError, match="not a Parquet file"):
        load_outcomes(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": ["high"] * 960}, "reward must be numbers, not string"),
        ({"prompt": [None, *["a"] * 959]}, "prompt of row 0 is missing"),
        ({"policy": list(range(960))}, "policy must be text, not int64"),
        ({"n_rollouts": [3, 0, *[1] * 958]}, "n_rollouts 0 of row 1 is below 1"),
        ({"benchmark": [1] * 960}, "benchmark must be text"),
    ],
)
def test_a_column_of_the_wrong_kind_is_named(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "outcomes.parquet", **changes)
    with pytest.raises(OutcomesError, match=message):
        load_outcomes(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    parquet.write_table(
        pa.table({"prompt": pa.array([], pa.string()), "policy": [], "reward": []}), path
    )
    with pytest.raises(OutcomesError, match="holds no outcomes"):
        load_outcomes(path)


def test_columns_without_values_count_as_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "o.parquet", benchmark=[None] * 960, step=[None] * 960)
    outcomes = load_outcomes(path)
    assert set(outcomes.benchmark) == {""}
    assert set(outcomes.step) == {-1}
    assert set(outcomes.rollouts) == {1}


def test_difficulty_and_noise(tmp_path: Path) -> None:
    path = tmp_path / "o.parquet"
    columns = {
        "prompt": ["a", "a", "b"],
        "policy": ["p", "q", "p"],
        "reward": [0.5, 1.0, 0.0],
        "n_rollouts": [5, 5, 1],
    }
    parquet.write_table(pa.table(columns), path)
    outcomes = load_outcomes(path)
    assert dict(zip(outcomes.texts, outcomes.difficulty(), strict=True)) == {"a": 0.75, "b": 0.0}
    # 0.5 * 0.5 / (5 - 1) and 0, over the two rows of several rollouts
    assert outcomes.noise() == pytest.approx(0.03125)
