"""Commands of other packages, found by name and imported only when they are called.

A package registers a function in the entry-point group ``vzero.commands``; the function has the
signature of a typer command.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand

from vzero.cli.lines import BadInput

GROUP = "vzero.commands"

_HELP = {
    "serve": "Run a server.",
    "demo": "Run a server with real outcomes and try it.",
    "models": "Fetch, list and verify the weights of a profile.",
    "convert": "Turn the adapter of the paper's authors into safetensors, or back.",
    "eval": "Judge estimators on an outcomes file, or make the paper's tables again.",
    "train": "Train an in-context head from outcomes.",
}


def commands() -> Iterator["PluginCommand"]:
    """Return a command for every entry point of the group, in order of their names."""
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in sorted(entries):
        yield PluginCommand(entries[name])


class PluginCommand(TyperCommand):
    """Stands for a command until it is called."""

    def __init__(self, entry: EntryPoint) -> None:
        """Name the command; nothing is imported.

        Args:
            entry: where its function is.
        """
        super().__init__(entry.name, help=_HELP.get(entry.name, f"Provided by {entry.module}."))
        self._entry = entry

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Any = None,  # noqa: ANN401 - typer exports no name for it
        **extra: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Import the function and let its own command take over.

        Raises:
            BadInput: a package it needs is not installed.
        """
        with self._missing():
            function = self._entry.load()

        @wraps(function)
        def guarded(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            with self._missing():
                return function(*arguments, **named)

        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name)(guarded)
        command = typer.main.get_command(app)
        return command.make_context(info_name, args, parent, **extra)

    @contextmanager
    def _missing(self) -> Iterator[None]:
        """Say how to install what the block fails to import, unless it is the package's own."""
        own = self._entry.module.partition(".")[0]
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "").startswith(f"{own}."):
                raise
            default = "demo" if self.name == "demo" else "server"
            needed = self._entry.extras[0] if self._entry.extras else default
            raise BadInput(
                f"vzero {self.name} needs the {needed}: pip install 'vzero[{needed}]'"
            ) from error
