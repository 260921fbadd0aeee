"""Settings that come from a file, checked before anything is computed with them."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, ValidationError, create_model


class RecipeError(Exception):
    """A recipe cannot be read."""


def read_toml(path: Path) -> dict[str, Any]:
    """What a file of settings holds.

    Raises:
        RecipeError: The file is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: {error}") from error


def checked(
    path: Path, given: Mapping[str, Any], types: Mapping[str, Any], table: str = ""
) -> dict[str, Any]:
    """The settings of a table of a file, each of its type.

    A whole number does for a number; nothing else is converted.

    Args:
        path: The file, for the error.
        given: What the table holds.
        types: Type of each setting there is, by name.
        table: Name of the table; empty for the file itself.

    Raises:
        RecipeError: A setting does not exist, or is of another type.
    """
    entries: dict[str, Any] = {name: (kind, None) for name, kind in types.items()}
    model = create_model("Settings", __config__=ConfigDict(strict=True, extra="forbid"), **entries)
    try:
        read: dict[str, Any] = model.model_validate(dict(given)).model_dump(exclude_unset=True)
    except ValidationError as error:
        found = error.errors()
    else:
        return read
    unknown = sorted(str(one["loc"][0]) for one in found if one["type"] == "extra_forbidden")
    if unknown:
        raise RecipeError(f"{path}: unknown settings {', '.join(unknown)}")
    first = found[0]
    place = ".".join(str(part) for part in ((table,) if table else ()) + first["loc"])
    problem = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    raise RecipeError(f"{path}: {place}: {problem}, not {first['input']!r}")


def types_of(settings: type) -> dict[str, Any]:
    """Types of the fields of a dataclass, by name."""
    hints = get_type_hints(settings)
    return {entry.name: hints[entry.name] for entry in fields(settings)}
