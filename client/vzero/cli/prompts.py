"""Prompts on the command line, in a file, or both."""

from typing import Annotated

import typer

from vzero.cli import lines

PromptsFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Also the prompts of this file, one per line; - is standard input. In a file "
        "named .jsonl a line is a JSON string or an object with a prompt.",
    ),
]


def gathered(given: list[str] | None, file_name: str | None) -> list[str]:
    """Return the prompts that were named, then those of the file.

    Raises:
        BadInput: there are none, or the file cannot be read.
    """
    asked = list(given or ())
    if file_name is not None:
        with lines.opened(file_name) as file:
            asked += lines.prompts(file, file_name.endswith(".jsonl"))
    if not asked:
        raise lines.BadInput("no prompts: name some, or a file with --prompts-file")
    return asked
