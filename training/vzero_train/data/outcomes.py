"""Recorded outcomes of many policies on many prompts, read from Parquet."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vzero_server.types import BoolArray, Float32Array, FloatArray, IntArray

REQUIRED = ("prompt", "policy", "reward")
OPTIONAL = ("benchmark", "source", "step", "n_rollouts", "cost_tokens", "params_b")

StringArray = npt.NDArray[np.str_]


class OutcomesError(Exception):
    """An outcomes file cannot be used."""


@dataclass(frozen=True)
class Outcomes:
    """One row per (policy, step, prompt); all arrays ``[n]``.

    Attributes:
        texts: Distinct prompts.
        prompt: Index into ``texts``.
        policy: Name of the policy.
        benchmark: Benchmark of the prompt; empty if unknown.
        source: Origin of the outcome; empty if unknown.
        step: Training step of the policy; -1 if it has none.
        reward: Mean reward in [0, 1].
        rollouts: Number of attempts behind the mean reward; 1 if unknown.
        tokens: Mean tokens of an attempt, NaN where unknown; None if unknown everywhere.
        params: Billions of parameters of the policy, NaN where unknown; None likewise.
    """

    texts: tuple[str, ...]
    prompt: IntArray
    policy: StringArray
    benchmark: StringArray
    source: StringArray
    step: IntArray
    reward: Float32Array
    rollouts: IntArray
    tokens: Float32Array | None = None
    params: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.reward)

    def where(self, kept: BoolArray) -> "Outcomes":
        """Return the rows for which ``kept`` is true; ``texts`` are unchanged."""
        return Outcomes(
            self.texts,
            self.prompt[kept],
            self.policy[kept],
            self.benchmark[kept],
            self.source[kept],
            self.step[kept],
            self.reward[kept],
            self.rollouts[kept],
            None if self.tokens is None else self.tokens[kept],
            None if self.params is None else self.params[kept],
        )

    def difficulty(self) -> FloatArray:
        """Return the mean reward of every prompt, ``[len(texts)]`` (Eq. 25); 0 without rows."""
        size = len(self.texts)
        sums = np.bincount(self.prompt, weights=self.reward, minlength=size)
        means: FloatArray = sums / np.bincount(self.prompt, minlength=size).clip(1)
        return means

    def noise(self) -> float:
        """Return the MSE of the exact success rates against these rewards; NaN if unknown.

        It is the variance of a mean of n rollouts, p (1 - p) / n, estimated by r (1 - r) / (n - 1)
        where n is at least 2.
        """
        several = self.rollouts > 1
        if not several.any():
            return float("nan")
        reward = self.reward[several].astype(np.float64)
        return float((reward * (1.0 - reward) / (self.rollouts[several] - 1)).mean())


@dataclass(frozen=True)
class Pool:
    """Outcomes of one policy at one step, each prompt once; a context is drawn from them.

    Attributes:
        policy: Name of the policy.
        step: Training step; -1 if it has none.
        benchmark: Benchmark, or ``source/*`` if all benchmarks of a source are mixed.
        prompt: Prompt indices, ``[n]``.
        reward: Mean rewards in [0, 1], ``[n]``.
    """

    policy: str
    step: int
    benchmark: str
    prompt: IntArray
    reward: Float32Array

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def success_rate(self) -> float:
        """The share of rewards of at least one half."""
        return float((self.reward >= 0.5).mean())


def load_outcomes(path: Path) -> Outcomes:
    """Read a Parquet file with the columns of ``REQUIRED`` and optionally of ``OPTIONAL``.

    Raises:
        OutcomesError: The file is missing, unreadable or empty, lacks a column, or has an invalid
            value: a reward that is NaN or outside [0, 1], a prompt that is missing or not text,
            fewer than one rollout, a negative cost or size.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if not path.is_file():
        raise OutcomesError(f"{path}: no such file")
    try:
        names = parquet.read_schema(path).names
        missing = [name for name in REQUIRED if name not in names]
        if missing:
            raise OutcomesError(f"{path}: lacks the columns {', '.join(missing)}")
        present = [name for name in (*REQUIRED, *OPTIONAL) if name in names]
        table = parquet.read_table(path, columns=present)
    except (pa.ArrowException, OSError) as error:
        raise OutcomesError(f"{path}: not a Parquet file ({error})") from error
    if not table.num_rows:
        raise OutcomesError(f"{path}: holds no outcomes")
    reward = _numbers(path, table, "reward", missing=np.nan).astype(np.float32)
    wrong = ~((reward >= 0.0) & (reward <= 1.0))
    if wrong.any():
        row = int(wrong.argmax())
        raise OutcomesError(f"{path}: reward {reward[row]} of row {row} lies outside [0, 1]")
    rollouts = _numbers(path, table, "n_rollouts", missing=1)
    if (rollouts < 1).any():
        row = int((rollouts < 1).argmax())
        raise OutcomesError(f"{path}: n_rollouts {rollouts[row]:g} of row {row} is below 1")
    # An array of strings would make every row as wide as the longest prompt.
    prompts = _text(path, table, "prompt").combine_chunks().dictionary_encode()
    outcomes = Outcomes(
        texts=tuple(prompts.dictionary.to_pylist()),
        prompt=prompts.indices.to_numpy().astype(np.int64),
        policy=_strings(path, table, "policy"),
        benchmark=_strings(path, table, "benchmark"),
        source=_strings(path, table, "source"),
        step=_numbers(path, table, "step", missing=-1).astype(np.int64),
        reward=reward,
        rollouts=rollouts.astype(np.int64),
        tokens=_amounts(path, table, "cost_tokens"),
        params=_amounts(path, table, "params_b"),
    )
    return outcomes.where(_first_of_each(outcomes))


def pools(outcomes: Outcomes, min_rows: int = 60) -> list[Pool]:
    """Return all pools of at least ``min_rows``: by benchmark, and by source if it has several."""
    all_pools = [
        *_grouped(outcomes, outcomes.benchmark, str, min_rows),
        *_grouped(
            outcomes,
            outcomes.source,
            lambda source: f"{source}/*".lstrip("/"),
            min_rows,
            mixed=True,
        ),
    ]
    return sorted(all_pools, key=lambda pool: (pool.benchmark, pool.policy, pool.step))


def _grouped(
    outcomes: Outcomes,
    key: StringArray,
    name: Callable[[str], str],
    min_rows: int,
    mixed: bool = False,
) -> Iterable[Pool]:
    columns = [_codes(key), _codes(outcomes.policy), _codes(outcomes.step)]
    order = np.lexsort(columns)
    changed = np.zeros(len(order), dtype=bool)
    for column in columns:
        changed[1:] |= column[order][1:] != column[order][:-1]
    for rows in np.split(order, np.flatnonzero(changed)):
        if len(rows) < min_rows or (mixed and len(set(outcomes.benchmark[rows])) < 2):
            continue
        _, first = np.unique(outcomes.prompt[rows], return_index=True)
        rows = rows[np.sort(first)]
        yield Pool(
            policy=str(outcomes.policy[rows[0]]),
            step=int(outcomes.step[rows[0]]),
            benchmark=name(str(key[rows[0]])),
            prompt=outcomes.prompt[rows],
            reward=outcomes.reward[rows],
        )


def _first_of_each(outcomes: Outcomes) -> BoolArray:
    """True for the first row of each (source, benchmark, policy, step, prompt)."""
    keys = (outcomes.source, outcomes.benchmark, outcomes.policy, outcomes.step, outcomes.prompt)
    stacked = np.stack([_codes(key) for key in keys])
    _, first = np.unique(stacked, axis=1, return_index=True)
    kept = np.zeros(len(outcomes), dtype=bool)
    kept[first] = True
    return kept


def _codes(values: npt.NDArray[Any]) -> IntArray:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _numbers(path: Path, table: Any, name: str, missing: float) -> IntArray | Float32Array:  # noqa: ANN401
    """A column of numbers; ``missing`` stands where there is none."""
    import pyarrow as pa

    if name not in table.column_names:
        return np.full(table.num_rows, missing)
    column = table[name]
    if pa.types.is_null(column.type) and name not in REQUIRED:
        return np.full(table.num_rows, missing)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise OutcomesError(f"{path}: {name} must be numbers, not {column.type}")
    numbers: Float32Array = column.to_numpy().astype(np.float64)
    return np.where(np.isnan(numbers), missing, numbers)


def _amounts(path: Path, table: Any, name: str) -> Float32Array | None:  # noqa: ANN401
    """Return a column of non-negative numbers, NaN where missing; None if all are missing."""
    amounts = _numbers(path, table, name, missing=np.nan).astype(np.float32)
    wrong = (amounts < 0.0) | np.isinf(amounts)
    if wrong.any():
        row = int(wrong.argmax())
        raise OutcomesError(f"{path}: {name} {amounts[row]:g} of row {row} is not an amount")
    return None if np.isnan(amounts).all() else amounts


def _strings(path: Path, table: Any, name: str) -> StringArray:  # noqa: ANN401
    """Return a column of names, empty where missing."""
    if name not in table.column_names:
        return np.full(table.num_rows, "", dtype=np.str_)
    values = _text(path, table, name).to_pylist()
    return np.asarray(["" if value is None else value for value in values], dtype=np.str_)


def _text(path: Path, table: Any, name: str) -> Any:  # noqa: ANN401
    """Return a column of text, without gaps if it is required."""
    import pyarrow as pa

    column = table[name]
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type) and name not in REQUIRED:
        return column.cast(pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise OutcomesError(f"{path}: {name} must be text, not {column.type}")
    if name in REQUIRED and column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise OutcomesError(f"{path}: {name} of row {row} is missing")
    return column
