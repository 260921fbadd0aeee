"""Statistics of a prompt's text that a pooled embedding does not preserve.

A mean over token states hides the length of a prompt, the number of its numbers and how rare its
words are, although each of these alone separates easy prompts from hard ones on many benchmarks.
The columns depend on the text alone and take well under a millisecond per prompt.
"""

import math
import re
import zlib
from collections.abc import Sequence

import numpy as np

from vzero_server.types import Float32Array

NAMES: tuple[str, ...] = (
    "log_chars",
    "log_words",
    "log_lines",
    "log_sentences",
    "word_length",
    "long_words",
    "longest_word",
    "distinct_words",
    "upper",
    "digits",
    "log_numbers",
    "number_size",
    "largest_number",
    "log_distinct_numbers",
    "log_decimals",
    "punctuation",
    "operators",
    "tex",
    "brackets",
    "quotes",
    "log_questions",
    "log_options",
    "non_ascii",
    "space",
    "log_compressed",
    "compression",
    "log_last_line",
    "tail_word_length",
    "tail_digits",
    "tail_upper",
    "tail_distinct_words",
    "tail_symbols",
)
"""Names of the columns, in order."""

# Only the beginning and the end of a longer text are read, to bound the cost. In characters.
_READ_START, _READ_END = 8_000, 24_000
_TAIL = 300
_MAX_NUMBER = 1e12
_COMPRESSED_BYTES = 20_000

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")
_OPTION = re.compile(r"(?m)^\s*\(?[A-J][).:]\s")


def text_columns(prompts: Sequence[str]) -> Float32Array:
    """Statistics of prompts, ``[len(prompts), len(NAMES)]``, all finite.

    Counts are log(1 + count), shares are in [0, 1], word lengths in characters. The ``tail_``
    columns cover the last 300 characters, where prompts with a shared prefix differ.
    """
    rows = np.zeros((len(prompts), len(NAMES)), dtype=np.float32)
    for row, prompt in zip(rows, prompts, strict=True):
        row[:] = _columns(prompt)
    return rows


def _columns(prompt: str) -> list[float]:
    text = prompt
    if len(text) > _READ_START + _READ_END:
        text = text[:_READ_START] + text[-_READ_END:]
    size = max(len(text), 1)
    words = _WORD.findall(text)
    lengths = [len(word) for word in words]
    count = max(len(words), 1)
    numbers = _NUMBER.findall(text)
    sizes = [math.log1p(min(float(number), _MAX_NUMBER)) for number in numbers]
    compressed = len(zlib.compress(text.encode("utf-8", "replace")[:_COMPRESSED_BYTES], 1))
    return [
        math.log1p(len(prompt)),
        math.log1p(len(words)),
        math.log1p(text.count("\n")),
        math.log1p(len(_SENTENCE_END.findall(text))),
        sum(lengths) / count,
        sum(length >= 8 for length in lengths) / count,
        math.log1p(max(lengths, default=0)),
        len({word.lower() for word in words}) / count,
        sum(map(str.isupper, text)) / size,
        sum(map(str.isdigit, text)) / size,
        math.log1p(len(numbers)),
        sum(sizes) / max(len(sizes), 1),
        max(sizes, default=0.0),
        math.log1p(len(set(numbers))),
        math.log1p(sum("." in number for number in numbers)),
        _share(text, ",;:"),
        _share(text, "+-*/=<>^%"),
        _share(text, "\\${}"),
        _share(text, "()[]"),
        _share(text, "\"'`"),
        math.log1p(text.count("?")),
        math.log1p(len(_OPTION.findall(text))),
        0.0 if text.isascii() else sum(not char.isascii() for char in text) / size,
        sum(map(str.isspace, text)) / size,
        math.log1p(compressed),
        compressed / size,
        math.log1p(len(text.rstrip().rpartition("\n")[2])),
        *_tail_columns(text[-_TAIL:]),
    ]


def _tail_columns(tail: str) -> list[float]:
    words = _WORD.findall(tail)
    count = max(len(words), 1)
    size = max(len(tail), 1)
    return [
        sum(map(len, words)) / count,
        sum(map(str.isdigit, tail)) / size,
        sum(map(str.isupper, tail)) / size,
        len({word.lower() for word in words}) / count,
        _share(tail, "+-*/=<>^%\\${}()[]_"),
    ]


def _share(text: str, characters: str) -> float:
    """Share of ``characters`` among all characters of a text."""
    return sum(map(text.count, characters)) / max(len(text), 1)
