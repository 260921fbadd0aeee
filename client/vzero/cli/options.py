"""Options that several commands share."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from vzero.channel import DEFAULT_ADDRESS as DEFAULT_ADDRESS
from vzero.channel import DEFAULT_TIMEOUT as DEFAULT_TIMEOUT
from vzero.client import Client

PolicyId = Annotated[str, typer.Argument(metavar="POLICY", help="Name of the policy.")]


class EstimatorName(StrEnum):
    """What computes the values."""

    auto = "auto"
    knn = "knn"
    icl = "icl"
    tabpfn = "tabpfn"


Estimator = Annotated[EstimatorName, typer.Option(help="What computes the values.")]

AsOfStep = Annotated[int | None, typer.Option(min=0, help="Use only outcomes of steps up to this.")]

MinVersion = Annotated[
    int | None, typer.Option(min=0, help="Wait for this version of the context.")
]

Peers = Annotated[
    bool, typer.Option(help="Correct values by what other policies earned on the same prompts.")
]

Remembered = Annotated[
    bool,
    typer.Option(help="Combine values with what the policy earned on the prompts before."),
]

Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label; repeatable.")
]

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


def pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """Return what follows an option that takes NAME=VALUE, the value after the last ``=``.

    Raises:
        typer.BadParameter: there is no ``=``, no name, or a name twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.rpartition("=")
        if not equals or not name or name in found:
            raise typer.BadParameter(f"{option} takes NAME=VALUE, each name once, not {text!r}")
        found[name] = value
    return found
