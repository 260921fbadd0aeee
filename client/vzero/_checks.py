"""Checks of single arguments. Each returns the value or raises an error that names the field."""

import math
import operator
from collections.abc import Sequence

import numpy as np

from vzero.errors import InvalidArgument

MAX_PROMPT_BYTES = 65_536
MAX_NAME_LENGTH = 256
"""Most characters in the name of a policy or fleet."""

_MAX_INT64 = 2**63 - 1


def check_name(field: str, name: object, max_length: int = MAX_NAME_LENGTH) -> str:
    """Return an identifier of 1 to ``max_length`` characters without control characters.

    Raises:
        InvalidArgument: it is not such a string.
    """
    if not isinstance(name, str):
        raise InvalidArgument.of(field, f"must be a string, not {type(name).__name__}")
    if not 1 <= len(name) <= max_length:
        raise InvalidArgument.of(field, f"must have 1 to {max_length} characters, not {len(name)}")
    if any(character < " " or character == "\x7f" for character in name):
        raise InvalidArgument.of(field, "must not contain control characters")
    _utf8_length(field, name)
    return name


def check_prompt(field: str, prompt: object) -> str:
    """Return a prompt of 1 to 65,536 bytes of UTF-8.

    Raises:
        InvalidArgument: it is not such a string.
    """
    if not isinstance(prompt, str):
        raise InvalidArgument.of(field, f"must be a string, not {type(prompt).__name__}")
    size = _utf8_length(field, prompt)
    if not 1 <= size <= MAX_PROMPT_BYTES:
        raise InvalidArgument.of(field, f"must have 1 to 65,536 bytes of UTF-8, not {size:,}")
    return prompt


def check_count(field: str, value: object) -> int:
    """Return a whole number from 0 to 2**63 - 1, such as a step or a version.

    Raises:
        InvalidArgument: it is not such a number.
    """
    return check_integer(field, value, 0, _MAX_INT64)


def check_integer(field: str, value: object, lowest: int, highest: int) -> int:
    """Return a whole number in a range, of any numeric type.

    Raises:
        InvalidArgument: it is not such a number.
    """
    try:
        if isinstance(value, float | np.floating) and float(value).is_integer():
            value = int(value)
        integer = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidArgument.of(field, f"must be a whole number, not {value!r}") from None
    if not lowest <= integer <= highest:
        wanted = f"in [{lowest}, {highest:,}]" if highest < _MAX_INT64 else f">= {lowest}"
        raise InvalidArgument.of(field, f"must be {wanted}, not {integer}")
    return integer


def check_number(field: str, value: object, highest: float = math.inf) -> float:
    """Return a finite number from 0 to ``highest``, which is 1 or infinity.

    Raises:
        InvalidArgument: it is not such a number.
    """
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, str) or not 0.0 <= number <= highest or math.isinf(number):
        wanted = "in [0, 1]" if highest == 1.0 else "a finite number >= 0"
        raise InvalidArgument.of(field, f"must be {wanted}, not {value!r}")
    return number


def check_choice(field: str, name: object, full_names: Sequence[str]) -> str:
    """Return the full name of an enumeration value, such as ``OBJECTIVE_PAPER`` for ``paper``.

    Args:
        field: argument that holds the name.
        name: short name, in any case.
        full_names: full names; the first one ends in ``UNSPECIFIED`` and cannot be chosen.

    Raises:
        InvalidArgument: no value has this name.
    """
    unspecified, *choices = full_names
    prefix = unspecified.removesuffix("UNSPECIFIED")
    full_name = f"{prefix}{name.upper()}" if isinstance(name, str) else ""
    if full_name not in choices:
        short_names = ", ".join(choice.removeprefix(prefix) for choice in choices)
        raise InvalidArgument.of(field, f"must be one of {short_names}, not {name!r}")
    return full_name


def _utf8_length(field: str, text: str) -> int:
    """Number of bytes of the text in UTF-8."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgument.of(field, "must be valid Unicode, not a lone surrogate") from None
