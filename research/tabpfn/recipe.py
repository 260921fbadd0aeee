"""The recipe of a small TabPFN's pre-training."""

from dataclasses import dataclass, fields
from pathlib import Path

from vzero_train.training.settings import RecipeError, checked, read_toml, types_of

RECIPE = Path(__file__).parent / "tabpfn-small.toml"
"""Ten to twenty minutes of one core."""

FEWEST_ROWS, FEWEST_COLUMNS = 16, 2
"""Sizes of the smallest table."""

_SIZES = {
    *("layers", "width", "heads", "group", "thinking", "rows", "columns", "asked", "tables"),
    *("steps", "save_every"),
}


@dataclass(frozen=True)
class TabPFNRecipe:
    """What a small TabPFN is and how it is pre-trained.

    Attributes:
        layers: Blocks of attention between cells of a row, then of a column.
        width: Numbers of a cell.
        heads: Attention heads; they divide the width.
        group: Columns that are read as one cell.
        thinking: Rows of no table that go before every context.
        rows: Most rows of a context, at least 16.
        columns: Most columns of a table, at least 2.
        asked: Rows of a table that are asked for.
        tables: Of a step; all have equally many rows and columns.
        steps: Optimiser steps.
        rate: Peak learning rate.
        decay: Weight decay of matrices.
        warmup: Share of the steps until the peak.
        clip: Largest norm of the gradient.
        save_every: Steps between two states that are kept.
        seed: Of weights and draws.

    Raises:
        ValueError: Sizes that no network or no table can have; the message names the setting.
    """

    layers: int = 3
    width: int = 48
    heads: int = 3
    group: int = 16
    thinking: int = 8
    rows: int = 128
    columns: int = 384
    asked: int = 64
    tables: int = 8
    steps: int = 3000
    rate: float = 2e-3
    decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    save_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"rows": FEWEST_ROWS, "columns": FEWEST_COLUMNS, "thinking": 0}
        for entry in fields(self):
            smallest = least.get(entry.name, 1)
            if entry.name in _SIZES and getattr(self, entry.name) < smallest:
                raise ValueError(f"{entry.name} must be at least {smallest}")
        if self.width < 4 or self.width % self.heads:
            raise ValueError(f"width must be at least 4 and a multiple of heads, {self.heads}")


def load_tabpfn_recipe(path: Path = RECIPE) -> TabPFNRecipe:
    """Read a recipe from TOML.

    Raises:
        RecipeError: The file is missing or no TOML, or holds a setting that does not exist, is of
            another type or of a size that cannot be.
    """
    given = checked(path, read_toml(path), types_of(TabPFNRecipe))
    try:
        return TabPFNRecipe(**given)
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from error
