"""Outcomes as messages, checked before they are sent."""

import math
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import SupportsFloat, SupportsIndex

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from vzero._checks import (
    check_count,
    check_integer,
    check_name,
    check_number,
    check_prompt,
)
from vzero._messages.columns import Column, Prompts, broadcast, elements
from vzero.errors import InvalidArgument
from vzero.v1 import value_pb2

_MAX_ROLLOUTS = 1_000_000
_MAX_ID_LENGTH = 128
# The years 1 to 9999, the range of a Timestamp.
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
_SINGULAR = {"prompts": "prompt", "rewards": "reward", "outcome_ids": "outcome_id"}
_PLURAL = {singular: plural for plural, singular in _SINGULAR.items()}

Moment = datetime | np.datetime64 | float
"""A point in time: aware datetime, NumPy datetime (UTC), or seconds since 1970."""


def build_outcome(
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
        rollouts: number of attempts behind the reward, 1 to 1,000,000.
        cost: mean cost of one rollout, >= 0, in a unit of your choice.
        step: checkpoint that made the rollouts, >= 0.
        observed_at: time of the observation; None: when the server receives it.
        outcome_id: 1 to 128 characters, unique within the policy; None: a random one.
        tokens: mean number of tokens of one rollout, >= 0.
        decision_id: allocation or ranking that led to the rollouts, 1 to 128 characters.

    Raises:
        InvalidArgument: an argument breaks a rule; ``violations`` names it.
    """
    if outcome_id is None:
        outcome_id = uuid.uuid4().hex
    else:
        check_name("outcome_id", outcome_id, _MAX_ID_LENGTH)
    message = value_pb2.Outcome(
        outcome_id=outcome_id,
        prompt=check_prompt("prompt", prompt),
        reward=check_number("reward", reward, 1.0),
        rollouts=check_integer("rollouts", rollouts, 1, _MAX_ROLLOUTS),
    )
    if cost is not None:
        message.cost = check_number("cost", cost, math.inf)
    if tokens is not None:
        message.tokens = check_number("tokens", tokens, math.inf)
    if decision_id is not None:
        message.decision_id = check_name("decision_id", decision_id, _MAX_ID_LENGTH)
    if step is not None:
        message.step = check_count("step", step)
    if observed_at is not None:
        message.observed_at.CopyFrom(_timestamp(observed_at))
    return message


def build_outcomes(
    prompts: Prompts,
    rewards: Column,
    *,
    rollouts: Column = 1,
    cost: Column = None,
    step: Column = None,
    observed_at: Column = None,
    outcome_ids: Sequence[str] | None = None,
    tokens: Column = None,
    decision_id: Column = None,
) -> list[value_pb2.Outcome]:
    """Check columns of outcomes and build one message for each prompt.

    A column is one value for all prompts, or a sequence or array [n]. None in a sequence of
    ``cost``, ``tokens``, ``step``, ``observed_at`` or ``decision_id`` means "not known".

    Args:
        prompts: strings [n], n >= 1.
        rewards: mean rewards in [0, 1].
        rollouts: number of attempts behind each reward, 1 to 1,000,000.
        cost: mean cost of one rollout, >= 0.
        step: checkpoint that made the rollouts, >= 0.
        observed_at: aware datetimes, NumPy datetimes (UTC) or seconds since 1970.
        outcome_ids: identifiers [n], unique within the policy; None: random ones.
        tokens: mean number of tokens of one rollout, >= 0.
        decision_id: allocations or rankings that led to the rollouts.

    Raises:
        InvalidArgument: a column has another length, or a value breaks a rule; ``violations``
            names it, such as ``rewards[3]``.
    """
    texts = elements("prompts", prompts)
    columns = {
        "rewards": rewards,
        "rollouts": rollouts,
        "cost": cost,
        "step": step,
        "observed_at": observed_at,
        "outcome_ids": None if outcome_ids is None else elements("outcome_ids", outcome_ids),
        "tokens": tokens,
        "decision_id": decision_id,
    }
    lists = {name: broadcast(name, column, len(texts)) for name, column in columns.items()}
    fields = [_SINGULAR.get(name, name) for name in ("prompts", *lists)]
    messages = []
    for i, row in enumerate(zip(texts, *lists.values(), strict=True)):
        try:
            messages.append(build_outcome(**dict(zip(fields, row, strict=True))))
        except InvalidArgument as error:
            field, description = error.violations[0]
            column_name = _PLURAL.get(field, field)
            raise InvalidArgument.of(f"{column_name}[{i}]", description) from None
    return messages


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
