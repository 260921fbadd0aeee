"""Command line and report of a benchmark."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity measured in several rounds.

    Attributes:
        path: Path in the JSON object: keys joined by dots.
        what: Description in the table.
        unit: Unit in the table.
        values: One value per round.
    """

    path: str
    what: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.values)


class Report:
    """Figures of one benchmark, printed as a table and as one line of JSON."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        """Create an empty report.

        Args:
            name: Name of the benchmark.
            options: Options of ``parser``.
        """
        self._name = name
        self._quick = bool(options.quick)
        self._console = Console(stderr=bool(options.json))
        self._figures: list[Figure] = []
        # Load from other processes makes figures unreliable.
        self._load_before = round(os.getloadavg()[0], 2)

    def status(self, activity: str) -> Any:  # noqa: ANN401
        """Show the current activity; a context manager."""
        return self._console.status(f"{self._name}: {activity}")

    def add(self, path: str, what: str, unit: str, values: Sequence[float]) -> None:
        """Add a figure; see ``Figure``."""
        self._figures.append(Figure(path, what, unit, tuple(values)))

    def print(self) -> None:
        """Print the table, unless only JSON is requested, and the JSON line."""
        if not self._console.stderr:
            self._console.print(self._table())
        print(json.dumps(self.as_json()))

    def as_json(self) -> dict[str, Any]:
        """Medians by path, and the lowest and highest round of each under ``spread``."""
        result: dict[str, Any] = {
            "benchmark": self._name,
            "quick": self._quick,
            "machine": {
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
                "load_before": self._load_before,
            },
        }
        for figure in self._figures:
            node = result
            *parents, key = figure.path.split(".")
            for parent in parents:
                node = node.setdefault(parent, {})
            node[key] = _rounded(figure.median)
        result["spread"] = {
            figure.path: [_rounded(min(figure.values)), _rounded(max(figure.values))]
            for figure in self._figures
        }
        return result

    def _table(self) -> Table:
        table = Table(title=f"{self._name}: median of rounds")
        table.add_column("figure")
        for column in ("median", "lowest", "highest", "rounds"):
            table.add_column(column, justify="right")
        table.add_column("unit")
        for figure in self._figures:
            numbers = (figure.median, min(figure.values), max(figure.values))
            cells = [f"{_rounded(number):,}" for number in numbers]
            table.add_row(figure.what, *cells, str(len(figure.values)), figure.unit)
        return table


def parser(description: str | None) -> argparse.ArgumentParser:
    """Parser of the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick", action="store_true", help="small and short, to check that it runs"
    )
    parser.add_argument("--json", action="store_true", help="print only the JSON line to stdout")
    return parser


def rounds(count: int, *measures: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
    """Run measurements in turn, so that disturbances affect all of them.

    Args:
        count: Number of rounds.
        measures: Measurements; each is called with the number of the round.

    Returns:
        Values of all rounds, by name.
    """
    values: dict[str, list[float]] = {}
    for number in range(count):
        for measure in measures:
            for name, value in measure(number).items():
                values.setdefault(name, []).append(value)
    return values


def milliseconds(work: Callable[[], object], times: int = 1) -> float:
    """Median duration of ``times`` calls."""
    durations = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        durations.append(1000.0 * (time.perf_counter() - began))
    return statistics.median(durations)


def _rounded(number: float) -> float:
    """Four significant digits; whole numbers above a thousand."""
    if abs(number) >= 1000:
        return round(number)
    return float(f"{number:.4g}")
