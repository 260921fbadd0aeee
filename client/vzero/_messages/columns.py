"""Columns of values: sequences, arrays, or one value for all rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vzero._checks import check_prompt
from vzero.errors import InvalidArgument

Prompts = Sequence[str] | npt.NDArray[np.str_] | npt.NDArray[np.object_]
"""Prompts [n], n >= 1."""

Column = Any
"""One value for all rows, or a sequence or array [n] with one value for each row."""


def check_prompts(prompts: Prompts) -> list[str]:
    """Return prompts as a list of at least one.

    Raises:
        InvalidArgument: there are none, or one of them breaks a rule.
    """
    return [
        check_prompt(f"prompts[{i}]", prompt)
        for i, prompt in enumerate(elements("prompts", prompts))
    ]


def elements(name: str, column: Column) -> list[Any]:
    """Return the elements of a one-dimensional column of strings, at least one.

    Raises:
        InvalidArgument: it is no sequence, has another dimension, or is empty.
    """
    if isinstance(column, str | bytes):
        raise InvalidArgument.of(name, "must be a sequence of strings, not one string")
    if isinstance(column, np.ndarray):
        if column.ndim != 1:
            raise InvalidArgument.of(name, f"must have one dimension, not {column.ndim}")
        column = column.tolist()
    try:
        values = list(column)
    except TypeError:
        kind = type(column).__name__
        raise InvalidArgument.of(name, f"must be a sequence of strings, not {kind}") from None
    if not values:
        raise InvalidArgument.of(name, "must not be empty")
    return values


def broadcast(name: str, column: Column, length: int) -> list[Any]:
    """Return one value for each of ``length`` rows.

    Raises:
        InvalidArgument: the column has another length, or more than one dimension.
    """
    if column is None or isinstance(column, str) or not hasattr(column, "__iter__"):
        return [column] * length
    if not isinstance(column, list | tuple):
        # Arrays, tensors and series alike; an array of times must not become plain numbers.
        column = np.asarray(column)
        if column.ndim == 0:
            return [column[()]] * length
        if column.ndim > 1:
            raise InvalidArgument.of(name, f"must have one dimension, not {column.ndim}")
        column = list(column) if column.dtype.kind == "M" else column.tolist()
    if len(column) != length:
        raise InvalidArgument.of(
            name, f"must have one value per prompt: {length}, not {len(column)}"
        )
    return list(column)
