"""Ways to split outcomes into what is trained on and what is judged (paper, section 5.2)."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from vzero_server.types import BoolArray, IntArray
from vzero_train.data.outcomes import (
    Outcomes,
    Pool,
)

MIXED = "*"
"""Benchmark of a pool that holds several."""

# Shares of the prompts: visited on-policy, and reserved for the strict test.
_VISITED = 0.4
_RESERVED = 0.2
# A run of nine or more checkpoints comes back to a prompt at every third.
_STEPS_PER_EPOCH = 3


@dataclass(frozen=True)
class Split:
    """Outcomes to train on, and outcomes to judge by."""

    train: Outcomes
    test: Outcomes


@dataclass(frozen=True)
class Stage:
    """The outcomes of one policy at one step, by what is done with them.

    Attributes:
        ordinal: How many steps of the policy were before.
        epoch: How often the policy's run had come past all prompts before.
        context: Contexts are drawn from these; they keep the policy's own balance.
        training: Balanced 1:1, for what is trained; shares no prompt with ``context``.
        held_out: All that is not judged: ``context``, and what ``training`` was drawn from.
        test: Judged.
    """

    ordinal: int
    epoch: int
    context: Pool
    training: Pool
    held_out: Pool
    test: Pool


def visits(outcomes: Outcomes) -> list[Pool]:
    """All outcomes of each policy at each step, whatever their benchmarks; each prompt once."""
    return [_pool(outcomes, policy, rows) for policy, steps in _runs(outcomes) for rows in steps]


def sequential_alignment(outcomes: Outcomes, *, seed: int = 11) -> list[Stage]:
    """A value model follows a run: judged are the on-policy outcomes of each step.

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
    for policy, steps in _runs(outcomes):
        cycle = _STEPS_PER_EPOCH if len(steps) >= _STEPS_PER_EPOCH**2 else 1
        for ordinal, rows in enumerate(steps):
            prompts = outcomes.prompt[rows]
            judged = visited[prompts] & (turn[prompts] % cycle == ordinal % cycle)
            rest = rows[~visited[prompts]]
            stage = _stage(outcomes, policy, (ordinal, cycle), (rows[judged], rest), rng)
            stages.append(stage)
    return stages


def strict_generalisation(outcomes: Outcomes, *, seed: int = 11) -> list[Stage]:
    """Judged are prompts that are in no context and no training set, at any step.

    One prompt of five is reserved for the test at every step of every policy. Of the others,
    half of a step's outcomes are its context pool and half are for training.

    Args:
        outcomes: Of policies along their steps.
        seed: Of all draws.

    Returns:
        A stage for each policy and step, in order.
    """
    rng = np.random.default_rng(seed)
    reserved = rng.random(len(outcomes.texts)) < _RESERVED
    stages = []
    for policy, steps in _runs(outcomes):
        for ordinal, rows in enumerate(steps):
            judged = reserved[outcomes.prompt[rows]]
            parts = (rows[judged], rows[~judged])
            stages.append(_stage(outcomes, policy, (ordinal, 1), parts, rng))
    return stages


def unseen_everything(
    outcomes: Outcomes, benchmarks: Collection[str], share: float = 0.4, seed: int = 11
) -> Split:
    """Hold out benchmarks, policies and prompts at once.

    The test rows are those of held-out policies on held-out benchmarks. Trained on is what
    shares no policy, no prompt and no benchmark with them.

    Args:
        outcomes: All outcomes.
        benchmarks: Held-out benchmarks. Name all that share a family (every GSM8K): the same
            prompt must not stand on both sides under another name.
        share: Share of policies that are held out, drawn at random. Policies that are known
            from the held-out benchmarks only are held out besides.
        seed: Of the draw.
    """
    held = np.isin(outcomes.benchmark, list(benchmarks))
    policies = np.unique(outcomes.policy)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(policies, int(share * len(policies)), replace=False)
    only = np.setdiff1d(outcomes.policy[held], outcomes.policy[~held])
    theirs = np.isin(outcomes.policy, np.union1d(drawn, only))
    seen = ~held & ~theirs & ~_prompts_of(outcomes, held)
    return Split(outcomes.where(seen), outcomes.where(held & theirs))


def unseen_benchmarks(outcomes: Outcomes, benchmarks: Collection[str]) -> Split:
    """Hold out benchmarks: judged are all policies on them; no prompt of theirs is trained on."""
    held = np.isin(outcomes.benchmark, list(benchmarks))
    return Split(outcomes.where(~_prompts_of(outcomes, held)), outcomes.where(held))


def _runs(outcomes: Outcomes) -> Iterator[tuple[str, list[IntArray]]]:
    """Every policy with the rows of each of its steps, in order; each prompt once per step."""
    for policy in np.unique(outcomes.policy):
        rows = np.flatnonzero(outcomes.policy == policy)
        steps = []
        for step in np.unique(outcomes.step[rows]):
            at = rows[outcomes.step[rows] == step]
            _, first = np.unique(outcomes.prompt[at], return_index=True)
            steps.append(at[np.sort(first)])
        yield str(policy), steps


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
        context=_pool(outcomes, policy, context),
        training=_pool(outcomes, policy, _balanced(outcomes, others, rng)),
        held_out=_pool(outcomes, policy, order),
        test=_pool(outcomes, policy, judged),
    )


def _balanced(outcomes: Outcomes, rows: IntArray, rng: np.random.Generator) -> IntArray:
    """As many successes as failures, as many as there are of the rarer."""
    success = outcomes.reward[rows] >= 0.5
    count = int(min(success.sum(), (~success).sum()))
    chosen = [rng.permutation(rows[label])[:count] for label in (success, ~success)]
    return rng.permutation(np.concatenate(chosen))


def _pool(outcomes: Outcomes, policy: str, rows: IntArray) -> Pool:
    benchmarks = np.unique(outcomes.benchmark[rows])
    return Pool(
        policy=policy,
        step=int(outcomes.step[rows[0]]) if len(rows) else -1,
        benchmark=str(benchmarks[0]) if len(benchmarks) == 1 else MIXED,
        prompt=outcomes.prompt[rows],
        reward=outcomes.reward[rows],
    )


def _prompts_of(outcomes: Outcomes, rows: BoolArray) -> BoolArray:
    """True where a row's prompt is also the prompt of one of ``rows``."""
    held = np.zeros(len(outcomes.texts), dtype=bool)
    held[outcomes.prompt[rows]] = True
    return held[outcomes.prompt]
