"""One outcome: checked before it is sent, so that a bad one is named where it is made."""

import math
import operator
import uuid
from datetime import UTC, datetime
from typing import SupportsFloat, SupportsIndex

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from vzero.errors import InvalidArgument
from vzero.v1 import value_pb2

MAX_PROMPT_BYTES = 65_536
_MAX_STEP = 2**63 - 1
# The years 1 to 9999, which is what a Timestamp may hold.
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799

Moment = datetime | np.datetime64 | float
"""A point in time: aware datetime, NumPy datetime (UTC), or seconds since 1970."""


def build(
    prompt: str,
    reward: SupportsFloat,
    *,
    rollouts: SupportsIndex | SupportsFloat = 1,
    cost: SupportsFloat | None = None,
    step: SupportsIndex | SupportsFloat | None = None,
    observed_at: Moment | None = None,
    outcome_id: str | None = None,
    tokens: SupportsFloat | None = None,
    decision_id: str | None = None,
) -> value_pb2.Outcome:
    """Check an outcome and build its message.

    Args:
        prompt: 1 to 65,536 bytes of UTF-8.
        reward: mean reward over the rollouts, in [0, 1].
        rollouts: attempts the reward is the mean of, 1 to 1,000,000.
        cost: mean cost of one rollout, >= 0, in a unit of your choice.
        step: checkpoint that made the rollouts, >= 0.
        observed_at: when the reward was observed; None: when the server receives it.
        outcome_id: 1 to 128 characters, unique within the policy; None: a fresh one.
        tokens: mean number of tokens of one rollout, >= 0.
        decision_id: the allocation or ranking that led to the rollouts, 1 to 128 characters.

    Raises:
        InvalidArgument: an argument is out of range; ``violations`` names it.
    """
    if outcome_id is None:
        outcome_id = uuid.uuid4().hex
    else:
        check_name("outcome_id", outcome_id, 128)
    message = value_pb2.Outcome(
        outcome_id=outcome_id,
        prompt=check_prompt("prompt", prompt),
        reward=number("reward", reward, 1.0),
        rollouts=integer("rollouts", rollouts, 1, 1_000_000),
    )
    if cost is not None:
        message.cost = number("cost", cost, math.inf)
    if tokens is not None:
        message.tokens = number("tokens", tokens, math.inf)
    if decision_id is not None:
        message.decision_id = check_name("decision_id", decision_id, 128)
    if step is not None:
        message.step = check_count("step", step)
    if observed_at is not None:
        message.observed_at.CopyFrom(_timestamp(observed_at))
    return message


def check_name(field: str, name: object, longest: int) -> str:
    """Return an identifier of 1 to ``longest`` printable characters.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(name, str):
        raise InvalidArgument.of(field, f"must be a string, not {type(name).__name__}")
    if not 1 <= len(name) <= longest:
        raise InvalidArgument.of(field, f"must have 1 to {longest} characters, not {len(name)}")
    if any(character < " " or character == "\x7f" for character in name):
        raise InvalidArgument.of(field, "must not contain control characters")
    _utf8(field, name)
    return name


def check_prompt(field: str, prompt: object) -> str:
    """Return a prompt of 1 to 65,536 bytes of UTF-8.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(prompt, str):
        raise InvalidArgument.of(field, f"must be a string, not {type(prompt).__name__}")
    size = _utf8(field, prompt)
    if not 1 <= size <= MAX_PROMPT_BYTES:
        raise InvalidArgument.of(field, f"must have 1 to 65,536 bytes of UTF-8, not {size:,}")
    return prompt


def check_count(field: str, value: object) -> int:
    """Return a whole number from 0 to 2**63 - 1, such as a step or a version.

    Raises:
        InvalidArgument: it is something else.
    """
    return integer(field, value, 0, _MAX_STEP)


def _utf8(field: str, text: str) -> int:
    """Bytes of the text in UTF-8."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgument.of(field, "must be valid Unicode, not a lone surrogate") from None


def number(field: str, value: object, highest: float = math.inf) -> float:
    """Return a number from 0 to ``highest``, which is 1 or nothing.

    Raises:
        InvalidArgument: it is something else.
    """
    try:
        given = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        given = math.nan
    if isinstance(value, str) or not 0.0 <= given <= highest or math.isinf(given):
        wanted = "in [0, 1]" if highest == 1.0 else "a finite number >= 0"
        raise InvalidArgument.of(field, f"must be {wanted}, not {value!r}")
    return given


def integer(field: str, value: object, lowest: int, highest: int) -> int:
    """Return a whole number in a range, given as any type that holds one.

    Raises:
        InvalidArgument: it is something else.
    """
    try:
        if isinstance(value, float | np.floating) and float(value).is_integer():
            value = int(value)
        given = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidArgument.of(field, f"must be a whole number, not {value!r}") from None
    if not lowest <= given <= highest:
        above = f"in [{lowest}, {highest:,}]" if highest < _MAX_STEP else f">= {lowest}"
        raise InvalidArgument.of(field, f"must be {above}, not {given}")
    return given


def _timestamp(moment: object) -> Timestamp:
    stamp = Timestamp()
    try:
        if isinstance(moment, np.datetime64):
            if np.isnat(moment):
                raise ValueError
            stamp.FromMicroseconds(int(moment.astype("datetime64[us]").astype(np.int64)))
        elif isinstance(moment, datetime):
            if moment.tzinfo is None:
                raise InvalidArgument.of("observed_at", "must have a time zone")
            stamp.FromDatetime(moment.astimezone(UTC))
        else:
            stamp.FromNanoseconds(round(float(moment) * 1e9))  # type: ignore[arg-type]
        if not _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND:
            raise ValueError
    except InvalidArgument:
        raise
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgument.of("observed_at", f"must be a time, not {moment!r}") from None
    return stamp
