"""``vzero update``."""

import os
import stat
import sys
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vzero.cli import output
from vzero.cli._lines import decode_line, open_input, parse_outcome
from vzero.cli.errors import BadInput
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    PolicyId,
    Timeout,
    connect,
)
from vzero.errors import InvalidArgument
from vzero.stream import Stream
from vzero.values import Ack

_CHUNK_SIZE = 1024
_READY_SECONDS = 10.0


def update(
    policy: PolicyId,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Outcomes, one JSON object per line; - is standard input."
        ),
    ],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Store outcomes of a policy.

    A line is an object with prompt and reward. It may also have rollouts,
    cost, tokens, step, observed_at (seconds since 1970 or ISO 8601),
    outcome_id, decision_id and policy_id. An outcome without an outcome_id
    is stored again if the file is sent again.
    """
    with open_input(file) as source, connect(address, timeout) as client:
        client.wait_ready(min(timeout, _READY_SECONDS))
        problem: BadInput | None = None
        with client.stream(policy, chunk_size=_CHUNK_SIZE) as stream:
            try:
                _send(source, policy, stream, quiet=as_json)
            except BadInput as error:
                problem = error
        stored = stream.accepted + stream.duplicates
        if problem is not None:
            raise BadInput(f"{problem.message}; the {stored} outcomes before it are stored")
        if stream.ack is None:
            raise BadInput(
                f"{file} has no outcomes: write one JSON object with prompt and reward per line"
            )
        total = Ack(policy, stream.ack.version, stream.accepted, stream.duplicates)
    output.ack(total, as_json)


def _send(source: IO[bytes], policy: str, stream: Stream, quiet: bool) -> None:
    """Add every line to the stream and wait for the acknowledgements."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task("bytes sent", total=_size(source))
        for number, raw in enumerate(source, start=1):
            line = decode_line(raw, number)
            if line.strip():
                fields = parse_outcome(line, number, policy)
                try:
                    stream.add(**fields)
                except InvalidArgument as error:
                    if error.code is not None:
                        raise
                    raise BadInput.at(number, error) from error
            bar.advance(task, len(raw))
        stream.flush()


def _size(source: IO[bytes]) -> int | None:
    """Return the bytes of a file; None for a pipe."""
    try:
        status = os.fstat(source.fileno())
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
