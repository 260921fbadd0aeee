"""Lines of input files."""

import json
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from vzero.cli.errors import BadInput

_FIELDS = (
    "prompt", "reward", "rollouts", "cost", "tokens", "step", "outcome_id", "observed_at",
    "decision_id",
)  # fmt: skip


@contextmanager
def open_input(name: str) -> Iterator[IO[bytes]]:
    """Open a file for reading; ``-`` is standard input.

    Raises:
        BadInput: the file cannot be opened.
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


def decode_line(raw: bytes, number: int) -> str:
    """Decode a line and strip its end.

    Args:
        raw: bytes of the line.
        number: number of the line, from 1.

    Raises:
        BadInput: the line is not UTF-8.
    """
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadInput.at(number, "is not UTF-8") from None


def read_prompts(file: IO[bytes], as_json: bool) -> list[str]:
    """Read prompts, one per line; blank lines are skipped.

    Args:
        file: file to read.
        as_json: whether a line is a JSON string, or an object with a ``prompt``.

    Raises:
        BadInput: a line cannot be read.
    """
    prompts = []
    for number, raw in enumerate(file, start=1):
        line = decode_line(raw, number)
        if not line.strip():
            continue
        if as_json:
            content = _parse_json(line, number)
            content = content.get("prompt") if isinstance(content, dict) else content
            if not isinstance(content, str):
                raise BadInput.at(number, "has no prompt")
            line = content
        prompts.append(line)
    return prompts


def parse_outcome(line: str, number: int, policy_id: str) -> dict[str, Any]:
    """Return an outcome as the arguments of `Stream.add`.

    Args:
        line: JSON object with ``prompt``, ``reward`` and optional fields.
        number: number of the line, from 1.
        policy_id: policy of all outcomes; a line may not name another.

    Raises:
        BadInput: the line is no such object.
    """
    content = _parse_json(line, number)
    if not isinstance(content, dict):
        raise BadInput.at(number, "must be a JSON object")
    line_policy = content.pop("policy_id", policy_id)
    if line_policy != policy_id:
        raise BadInput.at(number, f"is of policy {line_policy!r}, not {policy_id!r}")
    for name in content:
        if name not in _FIELDS:
            raise BadInput.at(number, f"has an unknown field {name!r}; known: {', '.join(_FIELDS)}")
    for name in ("prompt", "reward"):
        if content.get(name) is None:
            raise BadInput.at(number, f"has no {name}")
    fields = {name: value for name, value in content.items() if value is not None}
    if "observed_at" in fields:
        fields["observed_at"] = _parse_time(fields["observed_at"], number)
    return fields


def _parse_json(line: str, number: int) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = getattr(error, "msg", str(error))
        raise BadInput.at(number, f"is not JSON: {problem}") from None


def _parse_time(value: object, number: int) -> datetime | float:
    """Return a time given as seconds since 1970 or as ISO 8601 with a time zone."""
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
