"""Ten families of verifiable text tasks in plain English, each with levels 1 (easy) to 5 (hard)."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from research.policy_zoo.words import word

LEVELS = (1, 2, 3, 4, 5)
"""Difficulty levels, from easy to hard."""

MAX_ANSWER = 9
"""Longest answer any family asks for, in characters."""

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt with its verifiable answer.

    Attributes:
        family: Name of the task family, a key of ``FAMILIES``.
        level: Difficulty, 1 to 5.
        prompt: One plain English sentence.
        answer: The only accepted completion, 1 to ``MAX_ANSWER`` lower-case characters.
    """

    family: str
    level: int
    prompt: str
    answer: str


Draw = Callable[[Random, int], tuple[str, str]]


def verify(task: Task, completion: str) -> float:
    """Reward a completion: 1.0 if it is the answer exactly, else 0.0."""
    return float(completion == task.answer)


def _digits(rng: Random, count: int) -> int:
    """Draw a whole number of ``count`` decimal digits (one digit: 0 to 9)."""
    return rng.randint(0 if count == 1 else 10 ** (count - 1), 10**count - 1)


def _pair(rng: Random, level: int) -> tuple[int, int]:
    """Draw two numbers of one to three digits, in random order."""
    (low, high), (least, most) = (
        ((0, 9), (0, 9)),
        ((5, 25), (0, 9)),
        ((20, 99), (1, 9)),
        ((10, 99), (10, 99)),
        ((100, 999), (10, 99)),
    )[level - 1]
    pair = (rng.randint(low, high), rng.randint(least, most))
    return pair if rng.random() < 0.5 else (pair[1], pair[0])


def addition(rng: Random, level: int) -> tuple[str, str]:
    """Sum of two numbers; levels run from 1+1 to 3+2 digits."""
    a, b = _pair(rng, level)
    wording = rng.choice(
        (
            "What is {a} plus {b}?",
            "Add {a} and {b}.",
            "Sum of {a} and {b}?",
            "Compute {a} + {b}.",
            "How much is {a} and {b}?",
        )
    )
    return wording.format(a=a, b=b), str(a + b)


def subtraction(rng: Random, level: int) -> tuple[str, str]:
    """Difference of two numbers, never negative; levels run from 1-1 to 3-2 digits."""
    b, a = sorted(_pair(rng, level))
    wording = rng.choice(
        (
            "What is {a} minus {b}?",
            "Subtract {b} from {a}.",
            "Take {b} away from {a}.",
            "Compute {a} - {b}.",
            "How much is {a} less {b}?",
        )
    )
    return wording.format(a=a, b=b), str(a - b)


def multiplication(rng: Random, level: int) -> tuple[str, str]:
    """Product of two numbers; levels run from small tables to 2x1 digits."""
    low, high, top = ((0, 5, 5), (2, 9, 9), (10, 20, 5), (10, 40, 9), (41, 99, 9))[level - 1]
    a, b = rng.randint(low, high), rng.randint(min(low, 2), top)
    if rng.random() < 0.5:
        a, b = b, a
    wording = rng.choice(
        (
            "What is {a} times {b}?",
            "Multiply {a} by {b}.",
            "Product of {a} and {b}?",
            "Compute {a} * {b}.",
            "How much is {a} times {b}?",
        )
    )
    return wording.format(a=a, b=b), str(a * b)


def remainder(rng: Random, level: int) -> tuple[str, str]:
    """Remainder of a whole division; levels run from 20 mod 3 to 999 mod 12 at most."""
    low, high, top = ((1, 20, 3), (4, 40, 5), (10, 99, 7), (50, 250, 9), (200, 999, 12))[level - 1]
    a, b = rng.randint(low, high), rng.randint(2, top)
    wording = rng.choice(
        (
            "Divide {a} by {b}: what is left?",
            "What is {a} modulo {b}?",
            "Compute {a} mod {b}.",
            "Remainder of {a} over {b}?",
            "Reduce {a} modulo {b}.",
        )
    )
    return wording.format(a=a, b=b), str(a % b)


def comparison(rng: Random, level: int) -> tuple[str, str]:
    """Largest or smallest of two or three numbers of one to three digits."""
    count, digits = ((2, 1), (3, 1), (2, 2), (3, 2), (3, 3))[level - 1]
    numbers: list[int] = []
    while len(numbers) < count:
        number = _digits(rng, digits)
        if number not in numbers:
            numbers.append(number)
    listed = ", ".join(map(str, numbers[:-1])) + f" or {numbers[-1]}"
    largest = rng.random() < 0.5
    words = ("larger", "bigger") if largest else ("smaller", "lower")
    if count > 2:
        words = ("largest", "biggest") if largest else ("smallest", "lowest")
    wording = rng.choice(("Which is {w}, {n}?", "What is {w}, {n}?", "Name the {w}: {n}."))
    answer = max(numbers) if largest else min(numbers)
    return wording.format(w=rng.choice(words), n=listed), str(answer)


def sorting(rng: Random, level: int) -> tuple[str, str]:
    """Letters of a word in alphabetical order; levels are words of 3 to 7 letters."""
    text = word(rng, level + 2)
    wording = rng.choice(
        (
            "Sort the letters of '{w}'.",
            "Put '{w}' in alphabet order.",
            "Arrange '{w}' from a to z.",
            "Order the letters in '{w}'.",
        )
    )
    return wording.format(w=text), "".join(sorted(text))


def counting(rng: Random, level: int) -> tuple[str, str]:
    """Occurrences of a letter, 0 to 4, in a made-up word; levels are words of 3 to 9 letters."""
    length = (3, 4, 5, 7, 9)[level - 1]
    letter = rng.choice("aeiourstln")
    # Every count is as likely, lest one answer be right most of the time.
    places = rng.sample(range(length), rng.randint(0, min(length, 4)))
    others = [other for other in word(rng, length) + "bcdfg" if other != letter]
    text = "".join(letter if i in places else rng.choice(others) for i in range(length))
    wording = rng.choice(
        (
            "How many times is {c} in '{w}'?",
            "Count the letter {c} in '{w}'.",
            "How often does {c} occur in '{w}'?",
            "How many {c}s are in '{w}'?",
        )
    )
    return wording.format(c=letter, w=text), str(text.count(letter))


def reversal(rng: Random, level: int) -> tuple[str, str]:
    """A word written backwards; levels are words of 3 to 7 letters."""
    text = word(rng, level + 2)
    wording = rng.choice(
        (
            "Write '{w}' backwards.",
            "Reverse the word '{w}'.",
            "Spell '{w}' in reverse.",
            "Read '{w}' from right to left.",
        )
    )
    return wording.format(w=text), text[::-1]


def position(rng: Random, level: int) -> tuple[str, str]:
    """The letter at a given place of a word; levels are words of 3 to 8 letters."""
    length = (3, 4, 5, 6, 8)[level - 1]
    text = word(rng, length)
    place = rng.randrange(length)
    wording = rng.choice(
        (
            "What is {o} in '{w}'?",
            "Which letter is {o} in '{w}'?",
            "Give the {o} letter of '{w}'.",
            "Name the {o} letter in '{w}'.",
        )
    )
    return wording.format(o=_ORDINALS[place], w=text), text[place]


def consonants(rng: Random, level: int) -> tuple[str, str]:
    """A word without its vowels; levels are words of 3 to 8 letters."""
    text = word(rng, (3, 4, 5, 6, 8)[level - 1])
    while not text.strip("aeiou"):
        text = word(rng, len(text))
    wording = rng.choice(
        (
            "Remove the vowels from '{w}'.",
            "Write '{w}' without its vowels.",
            "Drop every vowel in '{w}'.",
            "List the consonants of '{w}'.",
        )
    )
    return wording.format(w=text), "".join(letter for letter in text if letter not in "aeiou")


NUMBERS: dict[str, Draw] = {
    "addition": addition,
    "subtraction": subtraction,
    "multiplication": multiplication,
    "remainder": remainder,
    "comparison": comparison,
}
"""The number families."""

WORDS: dict[str, Draw] = {
    "sorting": sorting,
    "counting": counting,
    "reversal": reversal,
    "position": position,
    "consonants": consonants,
}
"""The letter families."""

FAMILIES: dict[str, Draw] = NUMBERS | WORDS
"""All families, by name."""


def draw(rng: Random, family: str, level: int) -> Task:
    """Draw one task of a family at a level (1 to 5)."""
    prompt, answer = FAMILIES[family](rng, level)
    return Task(family, level, prompt, answer)
