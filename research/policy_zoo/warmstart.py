"""The supervised warm start: teacher forcing on demonstrations, some of which are wrong."""

from random import Random

import torch
from torch.nn import functional

from research.policy_zoo.model import PAD, CharacterModel, encode_answers, encode_prompts
from research.policy_zoo.tasks import MAX_ANSWER, NUMBERS, Task

WRONG_SHARE = 0.3
"""Share of demonstrations that are spoilt, in [0, 1).

A policy that has seen only correct answers has little left to gain but knowledge, which
reinforcement teaches slowly. Imperfect demonstrations leave what they leave in large language
models: a policy that is less reliable than it is able.
"""


def spoil(task: Task, rng: Random) -> str:
    """A wrong answer near the right one: a character replaced, dropped, added or swapped."""
    letters = "0123456789" if task.family in NUMBERS else "abcdefghijklmnopqrstuvwxyz"
    while True:
        text, place = list(task.answer), rng.randrange(len(task.answer))
        change = rng.randrange(4)
        if change == 0 and len(text) > 1:
            del text[place]
        elif change == 1 and len(text) < MAX_ANSWER:
            text.insert(place, rng.choice(letters))
        elif change == 2 and place > 0:
            text[place - 1], text[place] = text[place], text[place - 1]
        else:
            text[place] = rng.choice("0123456789" if text[place].isdigit() else letters)
        if "".join(text) != task.answer:
            return "".join(text)


def demonstrations(tasks: list[Task], rng: Random, wrong_share: float = WRONG_SHARE) -> list[str]:
    """One demonstrated answer per task, wrong with probability ``wrong_share``."""
    return [spoil(task, rng) if rng.random() < wrong_share else task.answer for task in tasks]


def warm_start_loss(
    model: CharacterModel, tasks: list[Task], demonstrated: list[str]
) -> torch.Tensor:
    """Mean cross-entropy per character of demonstrated answers, in nats (scalar tensor)."""
    answers = encode_answers(demonstrated)[:, None]
    logits = model(encode_prompts([task.prompt for task in tasks]), answers)
    return functional.cross_entropy(logits.flatten(0, 2), answers.flatten(), ignore_index=PAD)
