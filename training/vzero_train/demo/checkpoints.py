"""Checkpoints of policies, read from an outcomes file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from vzero_server.types import FloatArray


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The outcomes of one checkpoint of a policy on n prompts."""

    policy: str
    step: int
    prompt_ids: list[str]
    prompts: list[str]
    rewards: FloatArray
    rollouts: list[int]
    costs: list[float]


def load_checkpoints(path: Path, policies: int) -> list[Checkpoint]:
    """Return the checkpoints of the first policies of an outcomes file, in training order."""
    lineages: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in pq.read_table(path).to_pylist():
        lineages.setdefault(row["policy"], {}).setdefault(row["step"], []).append(row)
    runs = [lineages[name] for name in sorted(lineages)[:policies]]
    # Policies take turns, as if they trained side by side.
    rounds = zip_longest(*([steps[step] for step in sorted(steps)] for steps in runs))
    return [_checkpoint(rows) for turn in rounds for rows in turn if rows]


def _checkpoint(rows: Sequence[Mapping[str, Any]]) -> Checkpoint:
    return Checkpoint(
        policy=rows[0]["policy"],
        step=rows[0]["step"],
        prompt_ids=[row["prompt_id"] for row in rows],
        prompts=[row["prompt"] for row in rows],
        rewards=np.array([row["reward"] for row in rows]),
        rollouts=[row["n_rollouts"] for row in rows],
        costs=[row["cost_tokens"] for row in rows],
    )
