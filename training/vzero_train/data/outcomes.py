"""Recorded outcomes of many policies on many prompts: what a head is trained on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

REQUIRED = ("prompt", "policy", "reward")
OPTIONAL = ("benchmark", "source", "step")

Strings = npt.NDArray[np.str_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class OutcomesError(Exception):
    """A file of outcomes cannot be used."""


@dataclass(frozen=True)
class Outcomes:
    """One row per (policy, step, prompt); all arrays ``[n]``.

    Attributes:
        texts: Distinct prompts.
        prompt: Index into ``texts``.
        policy: Name of the policy.
        benchmark: Where the prompt comes from; empty if unknown.
        source: Who recorded it; empty if unknown.
        step: Training step of the policy; -1 where it has none.
        reward: Mean reward in [0, 1].
    """

    texts: tuple[str, ...]
    prompt: Ints
    policy: Strings
    benchmark: Strings
    source: Strings
    step: Ints
    reward: Floats

    def __len__(self) -> int:
        return len(self.reward)

    def where(self, kept: npt.NDArray[np.bool_]) -> "Outcomes":
        """The rows for which ``kept`` is true; ``texts`` stay as they are."""
        return Outcomes(
            self.texts,
            self.prompt[kept],
            self.policy[kept],
            self.benchmark[kept],
            self.source[kept],
            self.step[kept],
            self.reward[kept],
        )


@dataclass(frozen=True)
class Pool:
    """Outcomes one context can be drawn from: one policy at one step, each prompt once.

    Attributes:
        policy: Name of the policy.
        step: Training step; -1 where it has none.
        benchmark: Benchmark, or ``source/*`` where all of a source are mixed.
        prompt: Prompt indices, ``[n]``.
        reward: Mean rewards in [0, 1], ``[n]``.
    """

    policy: str
    step: int
    benchmark: str
    prompt: Ints
    reward: Floats

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def success_rate(self) -> float:
        """Share of rewards of at least one half."""
        return float((self.reward >= 0.5).mean())


def load_outcomes(path: Path) -> Outcomes:
    """Read a Parquet file with columns prompt, policy, reward [, benchmark, source, step].

    Raises:
        OutcomesError: The file is missing or unreadable, lacks a column, or holds a reward
            that is NaN or outside [0, 1].
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
    except pa.ArrowInvalid as error:
        raise OutcomesError(f"{path}: not a Parquet file ({error})") from error
    count = table.num_rows
    reward = table["reward"].to_numpy().astype(np.float32)
    wrong = ~((reward >= 0.0) & (reward <= 1.0))
    if wrong.any():
        row = int(wrong.argmax())
        raise OutcomesError(f"{path}: reward {reward[row]} of row {row} lies outside [0, 1]")
    encoded = table["prompt"].combine_chunks().dictionary_encode()
    step = np.full(count, -1, dtype=np.int64)
    if "step" in present:
        step = table["step"].fill_null(-1).to_numpy().astype(np.int64)
    outcomes = Outcomes(
        texts=tuple(encoded.dictionary.to_pylist()),
        prompt=encoded.indices.to_numpy().astype(np.int64),
        policy=_strings(table, "policy", count),
        benchmark=_strings(table, "benchmark", count),
        source=_strings(table, "source", count),
        step=step,
        reward=reward,
    )
    return outcomes.where(_first_of_each(outcomes))


def pools(outcomes: Outcomes, min_rows: int = 60) -> list[Pool]:
    """All pools of at least ``min_rows``: per benchmark, and mixed per source of several."""
    found = [
        *_grouped(outcomes, outcomes.benchmark, str, min_rows),
        *_grouped(outcomes, outcomes.source, lambda source: f"{source}/*", min_rows, mixed=True),
    ]
    return sorted(found, key=lambda pool: (pool.benchmark, pool.policy, pool.step))


def _grouped(
    outcomes: Outcomes,
    key: Strings,
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


def _first_of_each(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """True for the first row of each (source, benchmark, policy, step, prompt)."""
    keys = (outcomes.source, outcomes.benchmark, outcomes.policy, outcomes.step, outcomes.prompt)
    stacked = np.stack([_codes(key) for key in keys])
    _, first = np.unique(stacked, axis=1, return_index=True)
    kept = np.zeros(len(outcomes), dtype=bool)
    kept[first] = True
    return kept


def _codes(values: npt.NDArray[Any]) -> Ints:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _strings(table: Any, name: str, count: int) -> Strings:  # noqa: ANN401
    if name not in table.column_names:
        return np.full(count, "", dtype=np.str_)
    return np.asarray(table[name].to_pylist(), dtype=np.str_)
