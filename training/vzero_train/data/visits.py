"""The outcomes of each policy at each of its steps."""

from collections.abc import Iterator

import numpy as np

from vzero_server.types import IntArray
from vzero_train.data.outcomes import Outcomes, Pool

MIXED = "*"
"""Benchmark of a pool that holds outcomes of several benchmarks."""


def visits(outcomes: Outcomes) -> list[Pool]:
    """Return the outcomes of each policy at each step, of all benchmarks; each prompt once."""
    return [pool_of(outcomes, policy, rows) for policy, steps in runs(outcomes) for rows in steps]


def runs(outcomes: Outcomes) -> Iterator[tuple[str, list[IntArray]]]:
    """Yield every policy with the rows of each of its steps, in order; a prompt once per step."""
    for policy in np.unique(outcomes.policy):
        rows = np.flatnonzero(outcomes.policy == policy)
        steps = []
        for step in np.unique(outcomes.step[rows]):
            step_rows = rows[outcomes.step[rows] == step]
            _, first = np.unique(outcomes.prompt[step_rows], return_index=True)
            steps.append(step_rows[np.sort(first)])
        yield str(policy), steps


def pool_of(outcomes: Outcomes, policy: str, rows: IntArray) -> Pool:
    """Return rows of one policy and step as a pool."""
    benchmarks = np.unique(outcomes.benchmark[rows])
    return Pool(
        policy=policy,
        step=int(outcomes.step[rows[0]]) if len(rows) else -1,
        benchmark=str(benchmarks[0]) if len(benchmarks) == 1 else MIXED,
        prompt=outcomes.prompt[rows],
        reward=outcomes.reward[rows],
    )
