"""Read options of commands, declared once for all commands that compute values."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from vzero._options import ValueOptions

Command = Callable[..., None]


def _declarations(
    estimator: Annotated[
        str,
        typer.Option(metavar="NAME", help="Estimator of the values; 'vzero info' lists the names."),
    ] = "auto",
    as_of_step: Annotated[
        int | None, typer.Option(min=0, help="Use only outcomes of steps up to this one.")
    ] = None,
    min_version: Annotated[
        int | None, typer.Option(min=0, help="Wait until the policy has this version.")
    ] = None,
    with_peers: Annotated[
        bool,
        typer.Option(
            "--peers/--no-peers",
            help="Correct values by the rewards of other policies on the same prompts.",
        ),
    ] = True,
    with_history: Annotated[
        bool,
        typer.Option(
            "--history/--no-history",
            help="Combine values with the policy's past outcomes of the same prompts.",
        ),
    ] = True,
) -> None:
    """Declare the options. Their names are those of `vzero._options.ReadOptions`."""


def takes(options: type[ValueOptions]) -> Callable[[Command], Command]:
    """Return a decorator that adds read options to a command.

    The command receives them as ``**options``.

    Args:
        options: class that names the options, `ValueOptions` or `ReadOptions`.
    """
    declared = inspect.signature(_declarations).parameters
    added = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in declared.items()
        if name in options.__annotations__
    ]

    def decorate(command: Command) -> Command:
        signature = inspect.signature(command)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        # The address and what follows it come last in --help.
        place = next(i for i, parameter in enumerate(own) if parameter.name == "address")
        parameters = own[:place] + added + own[place:]
        changed: Any = command
        changed.__signature__ = signature.replace(parameters=parameters)
        changed.__annotations__ = {
            parameter.name: parameter.annotation for parameter in parameters
        } | {"return": None}
        return command

    return decorate
