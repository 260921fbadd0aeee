"""Training and test outcomes along the steps of policies (section 5.2 of the paper)."""

from dataclasses import dataclass

import numpy as np

from vzero_server.types import IntArray
from vzero_train.data.outcomes import Outcomes, Pool
from vzero_train.data.visits import pool_of, runs

# Shares of the prompts: visited on-policy, and reserved for the strict test.
_VISITED = 0.4
_RESERVED = 0.2
# A run of nine or more checkpoints comes back to a prompt at every third.
_STEPS_PER_EPOCH = 3


@dataclass(frozen=True)
class Stage:
    """The outcomes of one policy at one step, by their use.

    Attributes:
        ordinal: Number of earlier steps of the policy.
        epoch: Number of earlier passes over all prompts.
        context: Outcomes from which contexts are drawn, with their natural balance.
        training: Training outcomes, balanced 1:1; shares no prompt with ``context``.
        held_out: All outcomes but the test: ``context``, and those ``training`` is drawn from.
        test: Test outcomes.
    """

    ordinal: int
    epoch: int
    context: Pool
    training: Pool
    held_out: Pool
    test: Pool


def sequential_alignment(outcomes: Outcomes, *, seed: int = 11) -> list[Stage]:
    """Divide each step of a run; the test are its on-policy outcomes.

    Two prompts of five are visited on-policy, and no other is judged. A policy of at least
    nine steps visits a third of them per step and comes back to a prompt after three steps:
    its *first epoch* are the steps at which every prompt is new. A shorter run visits all of
    them at every step. The rest of a step's outcomes are its held-out rollouts: half of them
    are the context pool, the others are for training.

    Args:
        outcomes: Of policies along their steps.
        seed: Of all draws; policies and steps share the parts of the prompts.

    Returns:
        A stage for each policy and step, in order.
    """
    rng = np.random.default_rng(seed)
    visited = rng.random(len(outcomes.texts)) < _VISITED
    turn = rng.integers(0, _STEPS_PER_EPOCH, len(outcomes.texts))
    stages = []
    for policy, steps in runs(outcomes):
        cycle = _STEPS_PER_EPOCH if len(steps) >= _STEPS_PER_EPOCH**2 else 1
        for ordinal, rows in enumerate(steps):
            prompts = outcomes.prompt[rows]
            judged = visited[prompts] & (turn[prompts] % cycle == ordinal % cycle)
            rest = rows[~visited[prompts]]
            stage = _stage(outcomes, policy, (ordinal, cycle), (rows[judged], rest), rng)
            stages.append(stage)
    return stages


def strict_generalisation(outcomes: Outcomes, *, seed: int = 11) -> list[Stage]:
    """Divide by prompt; test prompts are in no context and no training set of any step.

    One prompt of five is reserved for the test at every step of every policy. Of the others,
    half of a step's outcomes are its context pool and half are for training.

    Args:
        outcomes: Outcomes of policies along their steps.
        seed: Seed of all draws.

    Returns:
        A stage for each policy and step, in order.
    """
    rng = np.random.default_rng(seed)
    reserved = rng.random(len(outcomes.texts)) < _RESERVED
    stages = []
    for policy, steps in runs(outcomes):
        for ordinal, rows in enumerate(steps):
            judged = reserved[outcomes.prompt[rows]]
            parts = (rows[judged], rows[~judged])
            stages.append(_stage(outcomes, policy, (ordinal, 1), parts, rng))
    return stages


def _stage(
    outcomes: Outcomes,
    policy: str,
    when: tuple[int, int],
    parts: tuple[IntArray, IntArray],
    rng: np.random.Generator,
) -> Stage:
    judged, rest = parts
    ordinal, cycle = when
    order = rng.permutation(rest)
    context, others = order[: len(order) // 2], order[len(order) // 2 :]
    return Stage(
        ordinal=ordinal,
        epoch=ordinal // cycle,
        context=pool_of(outcomes, policy, context),
        training=pool_of(outcomes, policy, _balanced(outcomes, others, rng)),
        held_out=pool_of(outcomes, policy, order),
        test=pool_of(outcomes, policy, judged),
    )


def _balanced(outcomes: Outcomes, rows: IntArray, rng: np.random.Generator) -> IntArray:
    """Return as many successes as failures, as many as the rarer of both."""
    success = outcomes.reward[rows] >= 0.5
    count = int(min(success.sum(), (~success).sum()))
    chosen = [rng.permutation(rows[label])[:count] for label in (success, ~success)]
    return rng.permutation(np.concatenate(chosen))
