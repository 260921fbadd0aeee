"""Options that several commands share."""

from typing import Annotated

import typer

from vzero.channel import DEFAULT_ADDRESS as DEFAULT_ADDRESS
from vzero.channel import DEFAULT_TIMEOUT as DEFAULT_TIMEOUT
from vzero.client import Client

PolicyId = Annotated[str, typer.Argument(metavar="POLICY", help="Name of the policy.")]

Address = Annotated[
    str,
    typer.Option(
        "--address", envvar="VZERO_ADDRESS", help="Where the server is: host:port or unix:/path."
    ),
]

Timeout = Annotated[float, typer.Option("--timeout", help="Longest wait for the server, seconds.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def connect(address: str, timeout: float) -> Client:
    """Make a client from the options.

    Raises:
        typer.BadParameter: an option cannot be used.
    """
    try:
        return Client(address, timeout=timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
