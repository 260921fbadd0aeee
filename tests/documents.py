"""Links, paths, commands, modules and code in the documentation."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "datasets" / "README.md",
    ROOT / "server" / "vzero_server" / "model" / "weights" / "MODEL_CARD.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "research").glob("*/README.md")),
]
# Folders that paths in the documentation may be relative to.
_BASES = [
    ROOT,
    *(ROOT / name for name in ("client", "server", "training")),
    ROOT / "client" / "vzero",
    ROOT / "server" / "vzero_server",
    ROOT / "training" / "vzero_train",
]
_SKIPPED = {".git", ".venv", "__pycache__", "node_modules"}


def links(text: str) -> list[str]:
    """Return the targets of all relative links."""
    return re.findall(r"\]\(((?![a-z]+:)[^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def code_spans(text: str) -> list[str]:
    """Return all inline code outside fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def paths(text: str) -> list[str]:
    """Return the inline code that names a file or folder of the repository."""
    top = {entry.name for base in _BASES for entry in base.iterdir() if entry.is_dir()}
    named = [span for span in code_spans(text) if re.fullmatch(r"[\w./-]+", span)]
    return [
        span
        for span in named
        if span.endswith((".py", ".proto"))
        or ("/" in span and span.endswith((".toml", ".json")) and not span.startswith("/"))
        or (span.partition("/")[0] in top - {"vzero"} and "/" in span)
    ]


def exists(path: str) -> bool:
    """Whether a path of a document is in the repository; capitals stand for any name."""
    if re.search(r"\b[A-Z_]+\b", Path(path).stem):
        path = str(Path(path).parent)
    if "/" in path:
        return any((base / path).exists() for base in _BASES)
    return path in _file_names()


@cache
def _file_names() -> set[str]:
    """Names of all files in the repository."""
    return {
        path.name for path in ROOT.rglob("*") if _SKIPPED.isdisjoint(path.relative_to(ROOT).parts)
    }


def modules(text: str) -> set[str]:
    """Return the modules that are run with ``python -m``."""
    return {name for name in re.findall(r"python -m ([\w.]+)", text) if not name.endswith(".NAME")}


def objects(text: str) -> list[str]:
    """Return the inline code that names a module of the repository or an object in it."""
    packages = "vzero|vzero_server|vzero_train|research|benchmarks"
    return [
        span
        for span in code_spans(text)
        if re.fullmatch(rf"(?:{packages})(?:\.[A-Za-z_]\w*)+", span)
        and not span.endswith((".py", ".NAME", ".sqlite3"))
    ]


def commands(text: str) -> Iterator[list[str]]:
    """Return the arguments of each ``vzero`` command in a page, one list per alternative (a|b)."""
    lines = "\n".join(blocks(text, r"(?:sh|console)")).splitlines()
    lines += re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    for line in [*(line.removeprefix("$ ") for line in lines), *code_spans(text)]:
        if re.match(r"vzero [a-z]", line):
            words = shlex.split(line, comments=True)[1:]
            for name in words[0].split("|"):
                for kind in words[1].split("|") if len(words) > 1 else [""]:
                    yield [name, *([kind] if kind else []), *words[2:]]
