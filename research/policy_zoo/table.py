"""The dataset as an Arrow table: one row per policy, step and evaluation prompt."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from research.policy_zoo.model import CharacterModel
from research.policy_zoo.policies import Recipe
from research.policy_zoo.tasks import Task
from research.policy_zoo.training import EVALUATION_ROLLOUTS, Checkpoint

_TEXT = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        ("source", _TEXT),
        ("benchmark", _TEXT),
        ("level", pa.int8()),
        ("prompt_id", _TEXT),
        ("prompt", _TEXT),
        ("policy", _TEXT),
        ("step", pa.int32()),
        ("reward", pa.float32()),
        ("n_rollouts", pa.int16()),
        ("cost_tokens", pa.float32()),
        ("params_b", pa.float64()),
    ]
)
"""Columns of the dataset."""


def prompt_ids(tasks: list[Task]) -> list[str]:
    """Identifiers such as ``addition-3-07``: family, level, number within the two."""
    seen: dict[tuple[str, int], int] = {}
    ids = []
    for task in tasks:
        cell = (task.family, task.level)
        seen[cell] = seen.get(cell, -1) + 1
        ids.append(f"{task.family}-{task.level}-{seen[cell]:02d}")
    return ids


def make_table(tasks: list[Task], results: list[tuple[Recipe, list[Checkpoint]]]) -> pa.Table:
    """Lay out checkpoints in the order policy, step, prompt."""
    ids = prompt_ids(tasks)
    size = len(tasks)
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for recipe, checkpoints in sorted(results, key=lambda result: result[0].name):
        billions = CharacterModel(recipe.shape).parameter_count() / 1e9
        for checkpoint in checkpoints:
            columns["source"] += ["policy_zoo"] * size
            columns["benchmark"] += [task.family for task in tasks]
            columns["level"] += [task.level for task in tasks]
            columns["prompt_id"] += ids
            columns["prompt"] += [task.prompt for task in tasks]
            columns["policy"] += [recipe.name] * size
            columns["step"] += [checkpoint.step] * size
            columns["reward"] += checkpoint.rewards.tolist()
            columns["n_rollouts"] += [EVALUATION_ROLLOUTS] * size
            columns["cost_tokens"] += np.round(checkpoint.tokens, 1).tolist()
            columns["params_b"] += [billions] * size
    arrays = [
        pa.array(columns[field.name], type=pa.string()).dictionary_encode()
        if pa.types.is_dictionary(field.type)
        else pa.array(columns[field.name], type=field.type)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def write_table(table: pa.Table, out: Path) -> None:
    """Write the dataset as one zstd-compressed row group."""
    out.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, out, compression="zstd", compression_level=19, row_group_size=len(table))
