"""Questions: a context of one policy, and queries with their observed rewards."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vzero_server.types import Float32Array, IntArray
from vzero_train.data.outcomes import Pool

# A pool of almost only successes or failures cannot be ranked.
_RATES = (0.03, 0.97)


@dataclass(frozen=True)
class Question:
    """One context and its queries, all of one policy at one step.

    Attributes:
        policy: Name of the policy.
        step: Its training step; -1 if it has none.
        benchmark: Benchmark of the prompts.
        context: Prompt indices, ``[N]``.
        context_rewards: Rewards in [0, 1], ``[N]``.
        queries: Prompt indices, ``[Q]``; none of them is in the context.
        rewards: Observed rewards of the queries in [0, 1], ``[Q]``.
        ages: Age of each context row, in rows, ``[N]``; None if all are of the step of the
            question.
    """

    policy: str
    step: int
    benchmark: str
    context: IntArray
    context_rewards: Float32Array
    queries: IntArray
    rewards: Float32Array
    ages: IntArray | None = None


def draw_questions(
    pools: Sequence[Pool],
    context: int,
    rng: np.random.Generator,
    *,
    per_benchmark: int = 24,
    most_queries: int = 384,
    fewest_queries: int = 64,
) -> list[Question]:
    """Draw contexts at random; the queries are the rest of their pools.

    Every benchmark gets about the same number of questions: each pool is drawn once if there are
    more than ``per_benchmark`` pools, and up to three times if there are fewer.
    """
    by_benchmark: dict[str, list[Pool]] = defaultdict(list)
    for pool in pools:
        large = len(pool) >= context + fewest_queries
        if large and _RATES[0] < pool.success_rate < _RATES[1]:
            by_benchmark[pool.benchmark].append(pool)
    questions = []
    for _, pools_of_benchmark in sorted(by_benchmark.items()):
        chosen = rng.permutation(len(pools_of_benchmark))[:per_benchmark]
        repeats = min(3, max(1, per_benchmark // len(chosen)))
        for index in np.repeat(chosen, repeats):
            question = _question(pools_of_benchmark[index], context, most_queries, rng)
            success = question.rewards >= 0.5
            if success.any() and not success.all():
                questions.append(question)
    return questions


def ask(context: Pool, test: Pool, size: int, rng: np.random.Generator) -> Question:
    """Draw a context of at most ``size`` rows; the queries are the whole test pool."""
    read = rng.permutation(len(context))[:size]
    return Question(
        policy=test.policy,
        step=test.step,
        benchmark=test.benchmark,
        context=context.prompt[read],
        context_rewards=context.reward[read],
        queries=test.prompt,
        rewards=test.reward,
    )


def _question(pool: Pool, context: int, most: int, rng: np.random.Generator) -> Question:
    order = rng.permutation(len(pool))
    read, asked = order[:context], order[context : context + most]
    return Question(
        policy=pool.policy,
        step=pool.step,
        benchmark=pool.benchmark,
        context=pool.prompt[read],
        context_rewards=pool.reward[read],
        queries=pool.prompt[asked],
        rewards=pool.reward[asked],
    )
