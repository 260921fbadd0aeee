"""Running a function as a command, ``python -m research.NAME``."""

from collections.abc import Callable, Sequence
from typing import Any

import typer

from vzero.cli import run


def run_command(
    function: Callable[..., None], name: str, arguments: Sequence[str] | None = None
) -> None:
    """Run a command line of one function and exit with its code, as ``vzero`` does.

    Args:
        function: Has the signature of a typer command.
        name: Module of the package ``research`` that is run.
        arguments: Without the name of the program; those of the process by default.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(function)
    command: Any = typer.main.get_command(app)
    run(command, arguments, program=f"python -m research.{name}")
