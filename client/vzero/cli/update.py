"""``vzero update``."""

import os
import stat
import sys
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vzero.cli import lines, output
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

_CHUNK = 1024
_READY_SECONDS = 10.0


def update(
    policy: PolicyId,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON lines of outcomes; - is standard input.")
    ],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Store outcomes of a policy.

    A line is an object with prompt and reward, and perhaps rollouts, cost, tokens, step,
    observed_at (seconds or ISO 8601), outcome_id, decision_id and policy_id. A line without
    outcome_id gets a fresh one: storing the file again stores that outcome again.
    """
    with lines.opened(file) as source, connect(address, timeout) as client:
        client.wait_ready(min(timeout, _READY_SECONDS))
        problem: lines.BadInput | None = None
        with client.stream(policy, chunk_size=_CHUNK) as stream:
            try:
                _send(source, policy, stream, quiet=as_json)
            except lines.BadInput as error:
                problem = error
        known = stream.accepted + stream.duplicates
        if problem is not None:
            raise lines.BadInput(f"{problem.message}; the {known} outcomes before it are stored")
        if stream.ack is None:
            raise lines.BadInput(f"{file} holds no outcomes")
        done = Ack(policy, stream.ack.version, stream.accepted, stream.duplicates)
    output.ack(done, as_json)


def _send(source: IO[bytes], policy: str, stream: Stream, quiet: bool) -> None:
    """Add every line to the stream and wait for the acknowledgements."""
    size = _size(source)
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
    with bar:
        task = bar.add_task("bytes sent", total=size)
        for number, raw in enumerate(source, start=1):
            line = lines.text(raw, number)
            if line.strip():
                fields = lines.outcome(line, number, policy)
                try:
                    stream.add(**fields)
                except InvalidArgument as error:
                    if error.code is not None:
                        raise
                    raise lines.BadInput.at(number, error) from error
            bar.advance(task, len(raw))
        stream.flush()


def _size(source: IO[bytes]) -> int | None:
    """Bytes of a file; None when it is a pipe."""
    try:
        status = os.fstat(source.fileno())
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
