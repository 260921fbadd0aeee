"""Groups of commands about one kind of thing."""

from typing import Any

from typer.core import TyperGroup


class ListByDefault(TyperGroup):
    """A group that lists when no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - not exported
        """Put ``list`` in front unless a command, or help, is asked for."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)
