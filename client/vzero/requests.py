"""From arguments to protobuf requests, checked and cut to the size the server takes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vzero import outcome
from vzero.errors import InvalidArgument
from vzero.v1 import value_pb2

MAX_ITEMS = 4096
"""Prompts or outcomes a request may carry."""

PAGE_SIZE = 1000
"""Policies a page of a listing holds."""

MAX_BYTES = 8 * 1024 * 1024
"""Requests are cut before they exceed this many bytes, far below what a message may have."""

Item = TypeVar("Item")
Prompts = Sequence[str] | npt.NDArray[np.str_] | npt.NDArray[np.object_]
Column = Any
"""One value for all outcomes, or a sequence or array [n] with one for each."""

_SINGULAR = {"prompts": "prompt", "rewards": "reward", "outcome_ids": "outcome_id"}


def check_policy(policy_id: str) -> str:
    """Return the name of a policy: 1 to 256 characters, none of them a control character.

    Raises:
        InvalidArgument: it is something else.
    """
    return outcome.check_name("policy_id", policy_id, 256)


def check_prompts(prompts: Prompts) -> list[str]:
    """Return prompts as a list of at least one.

    Raises:
        InvalidArgument: one of them, or all, is something else.
    """
    return [
        outcome.check_prompt(f"prompts[{i}]", prompt)
        for i, prompt in enumerate(strings("prompts", prompts))
    ]


def check_estimator(name: str) -> str:
    """Return the name of an estimator in lower case.

    The server checks that there is an estimator of this name.

    Raises:
        InvalidArgument: the name is not a string of 1 to 64 characters.
    """
    return outcome.check_name("estimator", name, 64).lower()


def choice(field: str, name: str, names: Sequence[str]) -> str:
    """Return the full name of a value of an enumeration, such as ``RANK_MODE_PAPER`` for ``paper``.

    Args:
        field: what is named.
        name: the short name, in any case.
        names: the full names, the first of which stands for none and cannot be named.

    Raises:
        InvalidArgument: there is none of this name.
    """
    nothing, *known = names
    prefix = nothing.removesuffix("UNSPECIFIED")
    full = f"{prefix}{name.upper()}" if isinstance(name, str) else ""
    if full not in known:
        choices = ", ".join(other.removeprefix(prefix) for other in known)
        raise InvalidArgument.of(field, f"must be one of {choices}, not {name!r}")
    return full


def predict(
    policy_id: str,
    prompts: Prompts,
    *,
    estimator: str,
    as_of_step: int | None,
    min_version: int | None,
    with_peers: bool,
    with_history: bool,
) -> list[value_pb2.PredictRequest]:
    """Build the calls that ask for the values of some prompts, in order.

    Args:
        policy_id: the policy.
        prompts: strings [n], n >= 1.
        estimator: name of an estimator such as ``ICL``, or ``AUTO``, in any case.
        as_of_step: condition only on outcomes with at most this step, >= 0.
        min_version: wait for this version of the context, >= 0.
        with_peers: whether other policies correct the values.
        with_history: whether values remember what the policy earned on the prompts before.

    Raises:
        InvalidArgument: an argument breaks a rule.
    """
    check_policy(policy_id)
    estimator = check_estimator(estimator)
    checked = check_prompts(prompts)
    if as_of_step is not None:
        as_of_step = outcome.check_count("as_of_step", as_of_step)
    if min_version is not None:
        min_version = outcome.check_count("min_version", min_version)
    return [
        value_pb2.PredictRequest(
            policy_id=policy_id,
            prompts=part,
            estimator=estimator,
            as_of_step=as_of_step,
            min_version=min_version,
            with_peers=bool(with_peers),
            with_history=bool(with_history),
        )
        for part in cut(checked, (len(prompt.encode()) for prompt in checked))
    ]


def outcomes(
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

    A column is one value for all prompts or a sequence or array [n]. In a sequence of ``cost``,
    ``tokens``, ``step``, ``observed_at`` or ``decision_id`` None stands for "not known".

    Args:
        prompts: strings [n], n >= 1.
        rewards: mean rewards in [0, 1].
        rollouts: attempts each reward is the mean of, 1 to 1,000,000.
        cost: mean cost of one rollout, >= 0.
        step: checkpoint that made the rollouts, >= 0.
        observed_at: aware datetimes, NumPy datetimes (UTC) or seconds since 1970.
        outcome_ids: identifiers [n], unique within the policy; None: fresh ones.
        tokens: mean number of tokens of one rollout, >= 0.
        decision_id: allocations or rankings that led to the rollouts.

    Raises:
        InvalidArgument: a column has another length, or a value breaks a rule; ``violations``
            names it, such as ``rewards[3]``.
    """
    texts = strings("prompts", prompts)
    ids = None if outcome_ids is None else strings("outcome_ids", outcome_ids)
    columns = {
        "rewards": rewards,
        "rollouts": rollouts,
        "cost": cost,
        "step": step,
        "observed_at": observed_at,
        "outcome_ids": ids,
        "tokens": tokens,
        "decision_id": decision_id,
    }
    rows = {name: spread(name, column, len(texts)) for name, column in columns.items()}
    built = []
    for i, row in enumerate(zip(texts, *rows.values(), strict=True)):
        names = ("prompts", *rows)
        try:
            built.append(
                outcome.build(
                    **{
                        _SINGULAR.get(name, name): value
                        for name, value in zip(names, row, strict=True)
                    }
                )
            )
        except InvalidArgument as error:
            field, description = error.violations[0]
            plural = next((many for many, one in _SINGULAR.items() if one == field), field)
            raise InvalidArgument.of(f"{plural}[{i}]", description) from None
    return built


def chunks(
    policy_id: str, messages: Sequence[value_pb2.Outcome]
) -> Iterator[value_pb2.UpdateContextRequest]:
    """Cut outcomes of one policy into requests of at most 4096 outcomes and about 8 MiB."""
    for part in cut(messages, (message.ByteSize() for message in messages)):
        yield value_pb2.UpdateContextRequest(policy_id=policy_id, outcomes=part)


def strings(name: str, column: Column) -> list[Any]:
    """Elements of a one-dimensional column of strings, at least one."""
    if isinstance(column, str | bytes):
        raise InvalidArgument.of(name, "must be a sequence of strings, not one string")
    if isinstance(column, np.ndarray):
        if column.ndim != 1:
            raise InvalidArgument.of(name, f"must have one dimension, not {column.ndim}")
        column = column.tolist()
    try:
        elements = list(column)
    except TypeError:
        kind = type(column).__name__
        raise InvalidArgument.of(name, f"must be a sequence of strings, not {kind}") from None
    if not elements:
        raise InvalidArgument.of(name, "must not be empty")
    return elements


def spread(name: str, column: Column, length: int) -> list[Any]:
    """Give every outcome its value of the column."""
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


def cut(
    items: Sequence[Item], sizes: Iterable[int], most: int | None = None
) -> Iterator[list[Item]]:
    """Cut into runs of at most ``most`` items and, unless a single item exceeds it, MAX_BYTES.

    Args:
        items: what to cut.
        sizes: bytes of each.
        most: items of a run; None: MAX_ITEMS.
    """
    longest = most or MAX_ITEMS
    part: list[Item] = []
    held = 0
    for item, size in zip(items, sizes, strict=True):
        if part and (len(part) == longest or held + size > MAX_BYTES):
            yield part
            part, held = [], 0
        part.append(item)
        held += size
    if part:
        yield part
