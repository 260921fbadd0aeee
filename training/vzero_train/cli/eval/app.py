"""``vzero eval``: the quality of values, routers and prompt history on recorded outcomes."""

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from vzero.cli.errors import BadInput
from vzero_train.cli.eval.history import history
from vzero_train.cli.eval.outcomes import outcomes
from vzero_train.cli.eval.routing import routing


class EvalGroup(TyperGroup):
    """The group of subcommands; a file in place of a subcommand gets a helpful error."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - not exported
        """Find the subcommand.

        Raises:
            BadInput: A file was given where a subcommand belongs.
        """
        name = args[0]
        if name not in self.commands and (Path(name).suffix or Path(name).exists()):
            raise BadInput(f"{name} is not a subcommand: use 'vzero eval outcomes {name}'")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=EvalGroup,
    help="Compare values, routers and prompt history with observed outcomes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(outcomes)
app.command()(routing)
app.command()(history)
