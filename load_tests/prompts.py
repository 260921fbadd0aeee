"""Synthetic prompts: short and long arithmetic questions, some of them repeated."""

from random import Random

LONG_SHARE = 0.15
"""Share of long prompts among new ones: stories of many steps, about 100 to 600 tokens."""

_SHORT = (
    "What is {a} plus {b}?",
    "What is {a} minus {b}? Answer with the number only.",
    "Compute {a} * {b} and give the last three digits.",
    "Which is larger, {a} or {b}?",
    "What remains when {a} is divided by {b}?",
    "A shop sold {a} apples on Monday and {b} on Tuesday. How many did it sell in all?",
    "Sort the digits of {a} from the smallest to the largest, then add {b}.",
    "Is {a} divisible by 7? If it is, answer {b}, otherwise answer 0.",
)
_STEPS = (
    "Then the ledger gains {a} coins, of which {b} are paid out again the same evening.",
    "The next merchant doubles what is there and keeps {a} coins for the trouble.",
    "Of the rest, every {a}th coin turns out to be a counterfeit and is thrown away.",
    "A courier brings {a} more, and another takes {b} to the neighbouring town.",
)


def new_prompt(random: Random) -> str:
    """A prompt that is very likely new: about 10^12 of each kind exist."""
    if random.random() >= LONG_SHARE:
        return _filled(random.choice(_SHORT), random)
    story = [_filled("A ledger opens with {a} coins and a debt of {b}.", random)]
    story += [_filled(random.choice(_STEPS), random) for _ in range(random.randint(4, 24))]
    return " ".join([*story, "How many coins does the ledger hold in the end?"])


def common_prompts(count: int) -> list[str]:
    """The first ``count`` common prompts: always the same, shared by all sources."""
    random = Random("common")
    return [new_prompt(random) for _ in range(count)]


class PromptSource:
    """An endless source of new and common prompts."""

    def __init__(self, seed: str, *, repeated: float = 0.3, pool: int = 256) -> None:
        """Set up a source.

        Args:
            seed: Sources with different seeds share no new prompts.
            repeated: Share of common prompts, in [0, 1].
            pool: Number of common prompts.
        """
        self._random = Random(seed)
        self._repeated = repeated
        self._common = common_prompts(pool)

    def take(self, count: int) -> list[str]:
        """The next prompts."""
        return [self._next() for _ in range(count)]

    def _next(self) -> str:
        if self._random.random() < self._repeated:
            return self._random.choice(self._common)
        return new_prompt(self._random)


def _filled(template: str, random: Random) -> str:
    return template.format(a=random.randint(10, 999_999), b=random.randint(10, 999_999))
