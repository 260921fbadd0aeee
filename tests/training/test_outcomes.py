from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from vzero_train.data.outcomes import OutcomesError, load_outcomes, pools
from vzero_train.data.protocols import later_steps, unseen_everything, unseen_prompts

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
    found = pools(outcomes, 40)
    assert len(found) == 6 * (BENCHMARKS + 1)
    for pool in found:
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


def test_nothing_of_the_test_is_seen_in_training(path: Path) -> None:
    split = unseen_everything(load_outcomes(path), ["b0", "b1"])
    assert len(split.train)
    assert len(split.test)
    for name in ("prompt", "policy", "benchmark"):
        seen, judged = set(getattr(split.train, name)), set(getattr(split.test, name))
        assert not seen & judged


def test_strict_split_shares_no_prompt(path: Path) -> None:
    split = unseen_prompts(load_outcomes(path))
    assert not set(split.train.prompt) & set(split.test.prompt)
    assert set(split.train.policy) == set(split.test.policy)


def test_later_steps_are_judged(tmp_path: Path) -> None:
    count = 6 * BENCHMARKS * 40
    outcomes = load_outcomes(write(tmp_path / "o.parquet", step=np.arange(count) % 3))
    split = later_steps(outcomes, 2)
    assert set(split.train.step) == {0, 1}
    assert set(split.test.step) == {2}
