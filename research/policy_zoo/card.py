"""Render the tables of the data card: ``python -m research.policy_zoo.card``."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from research.policy_zoo.policies import RECIPES
from research.policy_zoo.tasks import FAMILIES, LEVELS

DATASET = Path("datasets/policy_zoo.parquet")


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of the dataset as arrays of one length.

    Attributes:
        columns: Values of each column, by its name.
    """

    columns: dict[str, NDArray[np.generic]]

    @classmethod
    def read(cls, path: Path) -> "Rows":
        """Read a dataset."""
        table = pq.read_table(path)
        return cls({name: np.asarray(table[name].to_pylist()) for name in table.column_names})

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        """Values of a column."""
        return self.columns[name]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.columns["reward"])

    def where(self, **wanted: object) -> "Rows":
        """The rows in which every named column has the wanted value."""
        kept = np.ones(len(self), dtype=bool)
        for name, value in wanted.items():
            kept &= self.columns[name] == value
        return Rows({name: values[kept] for name, values in self.columns.items()})

    def last(self) -> "Rows":
        """The rows of each policy's last checkpoint."""
        final = {name: self.where(policy=name)["step"].max() for name in self.names("policy")}
        kept = self["step"] == np.array([final[name] for name in self["policy"].tolist()])
        return Rows({name: values[kept] for name, values in self.columns.items()})

    def names(self, column: str) -> list[str]:
        """Distinct values of a column, sorted."""
        return sorted(set(self[column].tolist()))

    def mean(self, column: str = "reward") -> float:
        """Mean of a column."""
        return float(np.mean(self[column].astype(np.float64)))

    def mixed(self) -> float:
        """Share of rows whose reward is strictly between 0 and 1."""
        reward = self["reward"].astype(np.float64)
        return float(((reward > 0) & (reward < 1)).mean())


def _markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers with two decimals."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        cells = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def size_table(rows: Rows, path: Path) -> str:
    """What the file holds."""
    steps = [len(rows.where(policy=name).names("step")) for name in rows.names("policy")]
    cells: list[list[object]] = [
        ["rows", f"{len(rows):,}"],
        ["policies", len(steps)],
        ["checkpoints per policy", max(steps)],
        ["distinct prompts", f"{len(rows.names('prompt')):,}"],
        ["families", len(rows.names("benchmark"))],
        ["mean reward", rows.mean()],
        ["share of rows with 0 < reward < 1", rows.mixed()],
        ["file size", f"{path.stat().st_size / 1e6:.2f} MB"],
    ]
    return _markdown(["", "value"], cells)


def policy_table(rows: Rows) -> str:
    """What each policy is and practises."""
    cells = [
        [
            f"`{recipe.name}`",
            f"{rows.where(policy=recipe.name).mean('params_b') * 1000:.3f} M",
            recipe.shape.width,
            recipe.shape.layers,
            recipe.focus,
            f"{recipe.warm_steps} x {recipe.warm_batch}",
            f"{recipe.steps} x {recipe.prompts} x {recipe.rollouts}",
        ]
        for recipe in sorted(RECIPES, key=lambda recipe: recipe.name)
        if recipe.name in rows.names("policy")
    ]
    header = ["policy", "parameters", "width", "layers", "practises", "warm start (steps x tasks)"]
    return _markdown([*header, "GRPO (steps x prompts x rollouts)"], cells)


def step_table(rows: Rows) -> str:
    """Mean reward per policy and checkpoint."""
    steps, cells = rows.names("step"), list[list[object]]()
    for name in rows.names("policy"):
        part = rows.where(policy=name)
        cells.append([f"`{name}`", *(part.where(step=step).mean() for step in steps)])
    return _markdown(["policy \\ step", *map(str, steps)], cells)


def family_table(rows: Rows) -> str:
    """Mean reward per family and policy at the last checkpoint."""
    last, names = rows.last(), rows.names("policy")
    cells = [
        [family, *(last.where(benchmark=family, policy=name).mean() for name in names)]
        for family in FAMILIES
    ]
    return _markdown(["family", *(f"`{name}`" for name in names)], cells)


def level_table(rows: Rows) -> str:
    """Mean reward per family and level at the last checkpoints, over policies, with an example."""
    cells: list[list[object]] = []
    for family in FAMILIES:
        part = rows.last().where(benchmark=family)
        example = part.where(level=3)["prompt"][0]
        cells.append([family, example, *(part.where(level=level).mean() for level in LEVELS)])
    return _markdown(["family", "example (level 3)", *(f"level {i}" for i in LEVELS)], cells)


def spread_table(rows: Rows) -> str:
    """How prompts differ at the last checkpoint of each policy.

    The shares of variance are those of the means of families, and of families and levels.
    """
    cells: list[list[object]] = []
    for name in rows.names("policy"):
        part = rows.last().where(policy=name)
        reward = part["reward"].astype(np.float64)
        grid = np.array(
            [
                [part.where(benchmark=family, level=level).mean() for level in LEVELS]
                for family in FAMILIES
            ]
        )
        # Every family and level has the same number of prompts, so means may be averaged.
        total = float(reward.var()) or 1.0
        shares = [float(grid.mean(1).var()) / total, float(grid.var()) / total]
        extremes = [float((reward == 0).mean()), float((reward == 1).mean())]
        span = f"{grid.min():.2f} to {grid.max():.2f}"
        length = part.mean("cost_tokens")
        cells.append(
            [f"`{name}`", part.mixed(), *extremes, float(reward.std()), *shares, span, length]
        )
    header = ["policy", "0 < p < 1", "p = 0", "p = 1", "std of p", "variance from family"]
    return _markdown([*header, "from family and level", "range of cells", "mean tokens"], cells)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Print the tables of the data card.")
    parser.add_argument("path", type=Path, nargs="?", default=DATASET)
    path: Path = parser.parse_args(arguments).path
    rows = Rows.read(path)
    for title, text in (
        ("Size", size_table(rows, path)),
        ("Policies", policy_table(rows)),
        ("Mean reward per checkpoint", step_table(rows)),
        ("Mean reward per family, last checkpoint", family_table(rows)),
        ("Mean reward per level, last checkpoints of all policies", level_table(rows)),
        ("Spread between prompts, last checkpoint", spread_table(rows)),
    ):
        print(f"#### {title}\n\n{text}\n")


if __name__ == "__main__":
    main()
