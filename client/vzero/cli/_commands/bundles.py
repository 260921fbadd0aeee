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
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write.")],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Write all outcomes of a policy to a file, which 'vzero import' reads."""
    with connect(address, timeout) as client:
        client.export(policy, file)
    size = file.stat().st_size
    if as_json:
        output.document({"policy_id": policy, "path": str(file), "bytes": size})
    else:
        output.line(f"{policy}: {size:,} bytes written to {file}")


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File that 'vzero export' wrote.")],
    policy: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="POLICY",
            help="Policy to store the outcomes under, instead of the name in the file.",
        ),
    ] = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Store the outcomes of a file. To import it again stores nothing twice."""
    with connect(address, timeout) as client:
        ack = client.import_(file, policy_id=policy)
    output.ack(ack, as_json)
