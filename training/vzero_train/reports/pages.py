"""Pages of results: a Markdown file and a JSON file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def stem(name: str, label: str) -> str:
    """Return the file name of a page without its suffix; a label is appended."""
    return f"{name}-{label}" if label else name


def write(out: Path, name: str, text: str, result: Mapping[str, Any]) -> None:
    """Write ``<name>.md`` and ``<name>.json`` to a folder, which is created if missing."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text.rstrip() + "\n")
    (out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
