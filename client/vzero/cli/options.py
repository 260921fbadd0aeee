"""Options that several commands share."""

from collections.abc import Sequence
from typing import Annotated

import typer

from vzero._transport.endpoint import DEFAULT_ADDRESS as DEFAULT_ADDRESS
from vzero._transport.endpoint import DEFAULT_TIMEOUT as DEFAULT_TIMEOUT
from vzero.client import Client

PolicyId = Annotated[str, typer.Argument(metavar="POLICY", help="Name of the policy.")]

Prompts = Annotated[
    list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts, each in quotes.")
]

Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="Label; repeatable.")
]

Address = Annotated[
    str,
    typer.Option(
        "--address",
        envvar="VZERO_ADDRESS",
        help="Address of the server: host:port or unix:/path.",
    ),
]

Timeout = Annotated[
    float, typer.Option("--timeout", help="Longest wait for the server, in seconds.")
]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def connect(address: str, timeout: float) -> Client:
    """Return a client for the options of a command.

    Raises:
        typer.BadParameter: an option cannot be used.
    """
    try:
        return Client(address, timeout=timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def parse_pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Return the NAME=VALUE arguments of a repeatable option; the last ``=`` separates.

    Raises:
        typer.BadParameter: an argument has no ``=`` or no name, or repeats a name.
    """
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")
        if not equals or not name or name in pairs:
            raise typer.BadParameter(f"{option} takes NAME=VALUE, each name once, not {text!r}")
        pairs[name] = value
    return pairs
