"""Output of commands: one JSON document, or text and tables."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vzero.values import Ack


def document(content: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print the JSON document of a command with ``--json``."""
    print(json.dumps(content, ensure_ascii=False, indent=2))


def line(text: str) -> None:
    """Print a line of text."""
    print(text)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table; columns after the first are aligned right.

    Args:
        headers: names of the columns.
        rows: cells of each row, one for each header.
        title: line above the table.
    """
    printed = Table(title=None if title is None else escape(title), title_justify="left")
    for i, header in enumerate(headers):
        printed.add_column(
            header,
            justify="right" if i else "left",
            no_wrap=bool(i),
            overflow="fold",
        )
    for row in rows:
        printed.add_row(*(escape(cell) for cell in row))
    Console().print(printed)


def shorten(text: str, width: int = 60) -> str:
    """Return the text on one line of at most ``width`` characters."""
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= width else one_line[: width - 1] + "…"


def ack(result: Ack, as_json: bool) -> None:
    """Print an acknowledgement."""
    if as_json:
        document(
            {
                "policy_id": result.policy_id,
                "version": result.version,
                "accepted": result.accepted,
                "duplicates": result.duplicates,
            }
        )
    else:
        line(
            f"{result.policy_id}: {result.accepted:,} outcomes stored, "
            f"{result.duplicates:,} known before, version {result.version}"
        )
