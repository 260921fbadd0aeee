"""Groups of commands about one kind of object."""

from typing import Any

from typer.core import TyperGroup


class ListByDefault(TyperGroup):
    """A group that runs ``list`` if no command is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - not exported
        """Insert ``list`` unless the arguments have a command or ask for help."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)
