"""Simulated outcomes for the tests of training and evaluation."""

from collections.abc import Sequence

import numpy as np

from vzero_train.data.outcomes import Outcomes, Pool


def made_up_outcomes(
    prompts: int = 120,
    policies: int = 2,
    steps: int = 9,
    benchmarks: int = 2,
    seed: int = 0,
) -> Outcomes:
    """Outcomes of improving policies on the same prompts at every step."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=prompts)
    shape = (policies, steps, prompts)
    policy, step, prompt = (index.ravel() for index in np.indices(shape))
    chance = 1 / (1 + np.exp(-(0.3 * step + 0.5 * policy - 1.5 - 2 * difficulty[prompt])))
    return Outcomes(
        texts=tuple(f"prompt {index} {'x' * (index % 7)}" for index in range(prompts)),
        prompt=prompt.astype(np.int64),
        policy=np.array([f"policy {index}" for index in policy]),
        benchmark=np.array([f"b{index % benchmarks}" for index in prompt]),
        source=np.full(len(prompt), "made up"),
        step=step.astype(np.int64),
        reward=(rng.binomial(10, chance) / 10).astype(np.float32),
        rollouts=np.full(len(prompt), 10),
    )


def visit(step: int, prompts: Sequence[int], rewards: Sequence[float], policy: str = "p") -> Pool:
    """The outcomes of a policy at one step."""
    return Pool(policy, step, "b", np.array(prompts), np.array(rewards, dtype=np.float32))
