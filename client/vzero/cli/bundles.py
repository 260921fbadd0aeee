"""``vzero export`` and ``vzero import``."""

from pathlib import Path
from typing import Annotated

import typer

from vzero.cli import output
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    PolicyId,
    Timeout,
    connect,
)


def export(
    policy: PolicyId,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write.")],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Write all outcomes of a policy to a file."""
    with connect(address, timeout) as client:
        client.export(policy, file)
    size = file.stat().st_size
    if as_json:
        output.document({"policy_id": policy, "path": str(file), "bytes": size})
    else:
        output.line(f"{policy}: {size:,} bytes written to {file}")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that export wrote.")],
    policy: Annotated[
        str | None,
        typer.Option("--as", metavar="POLICY", help="Store under this name."),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Store the outcomes of a file. Doing it again doubles nothing."""
    with connect(address, timeout) as client:
        stored = client.import_(file, policy_id=policy)
    output.ack(stored, as_json)
