"""Reading of settings from TOML files, with checks of names and types."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model


class RecipeError(Exception):
    """A recipe cannot be read."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        RecipeError: The file is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: {error}") from error


def checked(
    path: Path, given: Mapping[str, Any], types: Mapping[str, Any], table: str = ""
) -> dict[str, Any]:
    """Check the names and types of the settings of one table.

    A whole number is accepted for a number; nothing else is converted.

    Args:
        path: The file, for error messages.
        given: Content of the table.
        types: Type of each setting by name.
        table: Name of the table; empty for the file itself.

    Raises:
        RecipeError: A setting is unknown, or has another type.
    """
    entries: dict[str, Any] = {name: (kind, None) for name, kind in types.items()}
    model = create_model("Settings", __config__=ConfigDict(strict=True, extra="forbid"), **entries)
    try:
        read: dict[str, Any] = model.model_validate(dict(given)).model_dump(exclude_unset=True)
    except ValidationError as error:
        problems = error.errors()
    else:
        return read
    unknown = sorted(
        str(entry["loc"][0]) for entry in problems if entry["type"] == "extra_forbidden"
    )
    if unknown:
        raise RecipeError(f"{path}: unknown settings {', '.join(unknown)}")
    first = problems[0]
    place = ".".join(str(part) for part in ((table,) if table else ()) + first["loc"])
    problem = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    raise RecipeError(f"{path}: {place}: {problem}, not {first['input']!r}")


def types_of(settings: type) -> dict[str, Any]:
    """Return the types of the fields of a dataclass by name."""
    hints = get_type_hints(settings)
    return {entry.name: hints[entry.name] for entry in fields(settings)}
