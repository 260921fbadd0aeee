"""Questions about policies whose outcomes arrive step by step in one window."""

import numpy as np

from vzero_server.values.ages import ages_of
from vzero_train.data.outcomes import Outcomes
from vzero_train.data.questions import Question
from vzero_train.data.visits import visits

_STREAMS = 5


def lineages(
    outcomes: Outcomes, per_step: int, *, window: int = 2048, seed: int = 11
) -> list[Question]:
    """Draw questions after each step of a policy; the context holds everything up to then.

    At every step of a policy some prompts are drawn, and their outcomes are added to its window;
    then the policy is asked for the step's reserved prompts. The prompts are divided into five
    parts, and each part is reserved in one of five such streams: every prompt is judged once
    per policy and step, and no stream ever shows an outcome of a prompt it judges.

    Args:
        outcomes: Outcomes of policies along their steps.
        per_step: Most outcomes that each step adds.
        window: Number of newest outcomes in the context.
        seed: Seed of the parts and the draws.
    """
    rng = np.random.default_rng([seed, per_step])
    part = rng.integers(0, _STREAMS, len(outcomes.texts))
    questions = []
    for stream in range(_STREAMS):
        seen: dict[str, tuple[list[int], list[float], list[int]]] = {}
        for pool in visits(outcomes):
            prompts, rewards, steps = seen.setdefault(pool.policy, ([], [], []))
            reserved = part[pool.prompt] == stream
            drawn = rng.permutation(np.flatnonzero(~reserved))[:per_step]
            prompts += pool.prompt[drawn].tolist()
            rewards += pool.reward[drawn].tolist()
            steps += [pool.step] * len(drawn)
            if reserved.any():
                question = Question(
                    policy=pool.policy,
                    step=pool.step,
                    benchmark=pool.benchmark,
                    context=np.array(prompts[-window:], np.int64),
                    context_rewards=np.array(rewards[-window:], np.float32),
                    queries=pool.prompt[reserved],
                    rewards=pool.reward[reserved],
                    ages=ages_of(np.array(steps[-window:], np.int64)),
                )
                questions.append(question)
    return questions
