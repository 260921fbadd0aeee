"""Prompts on the command line and in files."""

from typing import Annotated

import typer

from vzero.cli._lines import open_input, read_prompts
from vzero.cli.errors import BadInput

PromptsFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="File of prompts, one per line; - is standard input. In a .jsonl file a line is a "
        "JSON string or an object with a prompt.",
    ),
]


def collect_prompts(arguments: list[str] | None, file_name: str | None) -> list[str]:
    """Return the prompts of the arguments, then those of the file.

    Raises:
        BadInput: there are no prompts, or the file cannot be read.
    """
    prompts = list(arguments or ())
    if file_name is not None:
        with open_input(file_name) as file:
            prompts += read_prompts(file, file_name.endswith(".jsonl"))
    if not prompts:
        raise BadInput("no prompts: add some as arguments, or name a file with --prompts-file")
    return prompts
