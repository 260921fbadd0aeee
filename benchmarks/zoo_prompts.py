"""New prompts like those of the policy zoo, and longer ones."""

from functools import cache
from random import Random

import pyarrow.parquet as pq

from load_tests.prompts import PromptSource
from vzero_train.demo.command import zoo

MADE_UP = 0.3
"""Share of made-up prompts in a mix, some of them long; the others are the zoo's."""


def new_zoo_prompts(count: int, seed: str) -> list[str]:
    """Prompts of the zoo, each made new by a number; other seeds give other prompts."""
    random = Random(seed)
    return [f"{random.choice(_texts())} ({seed}, {place})" for place in range(count)]


def mixed_prompts(count: int, seed: str) -> list[str]:
    """New prompts of mixed lengths: the zoo's and made-up ones."""
    random, made_up = Random(f"mix {seed}"), PromptSource(seed, repeated=0.0)
    return [
        made_up.take(1)[0] if random.random() < MADE_UP else prompt
        for prompt in new_zoo_prompts(count, seed)
    ]


@cache
def _texts() -> list[str]:
    texts: list[str] = pq.read_table(zoo(), columns=["prompt"])["prompt"].unique().to_pylist()
    return texts
