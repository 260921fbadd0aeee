"""What commands print: a JSON document, or text and tables for a person."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vzero.values import Ack


def document(content: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Print the only thing that ``--json`` prints."""
    print(json.dumps(content, ensure_ascii=False, indent=2))


def line(text: str) -> None:
    """Print a line for a person."""
    print(text)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table; all columns but the first are aligned right.

    Args:
        headers: names of the columns.
        rows: cells, as many as headers.
        title: line above the table.
    """
    made = Table(title=None if title is None else escape(title), title_justify="left")
    for i, header in enumerate(headers):
        made.add_column(
            header,
            justify="right" if i else "left",
            no_wrap=bool(i),
            overflow="fold",
        )
    for row in rows:
        made.add_row(*(escape(cell) for cell in row))
    Console().print(made)


def shorten(text: str, width: int = 60) -> str:
    """Return the text on one line of at most ``width`` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def ack(stored: Ack, as_json: bool) -> None:
    """Print what was stored."""
    if as_json:
        document(
            {
                "policy_id": stored.policy_id,
                "version": stored.version,
                "accepted": stored.accepted,
                "duplicates": stored.duplicates,
            }
        )
    else:
        line(
            f"{stored.policy_id}: {stored.accepted:,} outcomes stored, "
            f"{stored.duplicates:,} known before, version {stored.version}"
        )
