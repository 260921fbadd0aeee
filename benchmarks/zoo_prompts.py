"""New prompts from those of the policy zoo, and longer synthetic ones."""

from functools import cache
from random import Random

import pyarrow.parquet as pq

from load_tests.prompts import PromptSource
from vzero_train.demo.command import zoo

SYNTHETIC_SHARE = 0.3
"""Share of synthetic prompts in a mix, some of them long; the others are from the zoo."""


def new_zoo_prompts(count: int, seed: str) -> list[str]:
    """Prompts of the zoo, each made new by a number; different seeds give different prompts."""
    random = Random(seed)
    return [f"{random.choice(_texts())} ({seed}, {number})" for number in range(count)]


def mixed_prompts(count: int, seed: str) -> list[str]:
    """New prompts of mixed lengths: from the zoo, and synthetic."""
    random, synthetic = Random(f"mix {seed}"), PromptSource(seed, repeated=0.0)
    return [
        synthetic.take(1)[0] if random.random() < SYNTHETIC_SHARE else prompt
        for prompt in new_zoo_prompts(count, seed)
    ]


@cache
def _texts() -> list[str]:
    texts: list[str] = pq.read_table(zoo(), columns=["prompt"])["prompt"].unique().to_pylist()
    return texts
