"""Lines of an input file, and what to say when one is bad."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import typer

_FIELDS = (
    "prompt", "reward", "rollouts", "cost", "tokens", "step", "outcome_id", "observed_at",
    "decision_id",
)  # fmt: skip


class BadInput(typer.TyperException):
    """The input cannot be used. The program leaves with exit code 2."""

    exit_code = 2

    @classmethod
    def at(cls, number: int, problem: object) -> "BadInput":
        """Name the line, counted from 1."""
        return cls(f"line {number}: {problem}")


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """Open a file to read, or standard input for ``-``.

    Raises:
        BadInput: it cannot be opened.
    """
    if name == "-":
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise BadInput(f"cannot read {name}: {error.strerror}") from error
        yield file


def text(raw: bytes, number: int) -> str:
    """Decode a line and strip what ends it.

    Raises:
        BadInput: it is not UTF-8.
    """
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadInput.at(number, "is not UTF-8") from None


def prompts(file: IO[bytes], as_json: bool) -> list[str]:
    """Read prompts, one per line; blank lines are skipped.

    Args:
        file: where to read.
        as_json: a line is a JSON string, or an object with a ``prompt``.

    Raises:
        BadInput: a line cannot be read.
    """
    found = []
    for number, raw in enumerate(file, start=1):
        line = text(raw, number)
        if not line.strip():
            continue
        if as_json:
            content = _parse(line, number)
            content = content.get("prompt") if isinstance(content, dict) else content
            if not isinstance(content, str):
                raise BadInput.at(number, "has no prompt")
            line = content
        found.append(line)
    return found


def outcome(line: str, number: int, policy_id: str) -> dict[str, Any]:
    """Read an outcome as the arguments of `Stream.add`.

    Args:
        line: a JSON object with ``prompt``, ``reward`` and perhaps other fields.
        number: its line.
        policy_id: the only policy the line may name.

    Raises:
        BadInput: it is no such object, or names another policy.
    """
    content = _parse(line, number)
    if not isinstance(content, dict):
        raise BadInput.at(number, "must be a JSON object")
    named = content.pop("policy_id", policy_id)
    if named != policy_id:
        raise BadInput.at(number, f"is of policy {named!r}, not {policy_id!r}")
    for name in content:
        if name not in _FIELDS:
            raise BadInput.at(number, f"has an unknown field {name!r}; known: {', '.join(_FIELDS)}")
    for name in ("prompt", "reward"):
        if content.get(name) is None:
            raise BadInput.at(number, f"has no {name}")
    fields = {name: value for name, value in content.items() if value is not None}
    if "observed_at" in fields:
        fields["observed_at"] = _moment(fields["observed_at"], number)
    return fields


def _parse(line: str, number: int) -> Any:  # noqa: ANN401 - whatever JSON can hold
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = getattr(error, "msg", str(error))
        raise BadInput.at(number, f"is not JSON: {problem}") from None


def _moment(value: object, number: int) -> datetime | float:
    """A time: seconds since 1970, or ISO 8601 with a time zone."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise BadInput.at(number, f"observed_at is no ISO 8601 time: {value!r}") from None
        if moment.tzinfo is None:
            raise BadInput.at(number, f"observed_at has no time zone: {value!r}")
        return moment
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise BadInput.at(number, f"observed_at must be seconds or ISO 8601, not {value!r}")
