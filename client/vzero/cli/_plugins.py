"""Commands of other packages, imported when they are called.

A package registers a function with the signature of a typer command, or a ``typer.Typer`` with
subcommands, in the entry-point group ``vzero.commands``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand

from vzero.cli.errors import BadInput

GROUP = "vzero.commands"

_HELP = {
    "serve": "Run a server.",
    "demo": "Run a server with real outcomes and try it.",
    "models": "Download, list and verify the weights of a profile.",
    "convert": "Convert the adapter of the paper's authors to safetensors, or back.",
    "eval": "Compare values, routers and prompt history with observed outcomes.",
    "train": "Train an in-context head from outcomes.",
}


def plugin_commands() -> Iterator["PluginCommand"]:
    """Yield a command for every entry point of the group, in order of their names."""
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in sorted(entries):
        yield PluginCommand(entries[name])


class PluginCommand(TyperCommand):
    """A command whose function is imported when it is called."""

    def __init__(self, entry: EntryPoint) -> None:
        """Create the command; nothing is imported.

        Args:
            entry: entry point of its function.
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
        """Import the command and return the context of its own parser.

        Raises:
            BadInput: a package that it needs is not installed.
        """
        with self._install_hint():
            loaded = self._entry.load()
        if isinstance(loaded, typer.Typer):
            app = loaded
        else:
            app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            app.command(self.name)(loaded)
        command = typer.main.get_command(app)
        for part in (command, *getattr(command, "commands", {}).values()):
            if part.callback is not None:
                part.callback = self._guarded(part.callback)
        return command.make_context(info_name, args, parent, **extra)

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its missing imports explained; see `_install_hint`."""

        @wraps(function)
        def guarded(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            with self._install_hint():
                return function(*arguments, **named)

        return guarded

    @contextmanager
    def _install_hint(self) -> Iterator[None]:
        """Replace the error of a missing package by how to install it."""
        package = self._entry.module.partition(".")[0]
        try:
            yield
        except ModuleNotFoundError as error:
            if (error.name or "").startswith(f"{package}."):
                raise
            extra = self._entry.extras[0] if self._entry.extras else "server"
            raise BadInput(
                f"vzero {self.name} needs the {extra}: pip install 'vzero[{extra}]'"
            ) from error
