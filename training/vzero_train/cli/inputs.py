"""Reading and checking of files and lists named on the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vzero.cli.errors import BadInput

if TYPE_CHECKING:
    from vzero_train.data.outcomes import Outcomes
    from vzero_train.training.recipe import Recipe


def outcomes_of(path: Path) -> "Outcomes":
    """Read an outcomes file.

    Raises:
        BadInput: The file cannot be used.
    """
    from vzero_train.data.outcomes import OutcomesError, load_outcomes

    try:
        return load_outcomes(path)
    except OutcomesError as error:
        raise BadInput(str(error)) from error


def recipe_of(path: Path | None) -> "Recipe":
    """Read a recipe; None reads the shipped one.

    Raises:
        BadInput: The file cannot be used.
    """
    from vzero_train.training.recipe import SHIPPED, load_recipe
    from vzero_train.training.settings import RecipeError

    try:
        return load_recipe(path or SHIPPED)
    except RecipeError as error:
        raise BadInput(str(error)) from error


def listed(values: Sequence[str] | None) -> list[str]:
    """Return the items of a repeatable option, whose values may be comma-separated lists."""
    return [item.strip() for text in values or () for item in text.split(",") if item.strip()]


def chosen(values: Sequence[str] | None, known: Sequence[str], option: str) -> list[str]:
    """Return the items of an option, all of which must be known; all known ones by default.

    Raises:
        BadInput: An item is unknown.
    """
    items = listed(values)
    for item in items:
        if item not in known:
            raise BadInput(f"{option}: no {item!r}; there are {', '.join(known)}")
    return items or list(known)


def numbers(values: Sequence[str] | None, default: Sequence[int], option: str) -> list[int]:
    """Return the items of an option as context sizes from 0 to 2,048.

    Raises:
        BadInput: An item is not such a number.
    """
    items = listed(values)
    for item in items:
        if not (item.isascii() and item.isdigit() and int(item) <= 2048):
            raise BadInput(f"{option}: {item!r} is not a context size from 0 to 2048")
    return [int(item) for item in items] or list(default)
