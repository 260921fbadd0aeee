"""How a benchmark is asked for, and how it reports."""

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
        path: Where it stands in the JSON object: keys, joined by dots.
        what: The same for a reader.
        unit: For a reader.
        values: One per round.
    """

    path: str
    what: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """What is reported of the rounds."""
        return statistics.median(self.values)


class Report:
    """The figures of one benchmark: a table for a reader, and one line of JSON."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        """Begin a report.

        Args:
            name: The benchmark.
            given: From ``parser``: whether it is quick, and wants JSON only.
        """
        self._name = name
        self._quick = bool(given.quick)
        self._console = Console(stderr=bool(given.json))
        self._figures: list[Figure] = []
        # Others at work on the machine make figures worthless: they should show.
        self._load_before = round(os.getloadavg()[0], 2)

    def status(self, doing: str) -> Any:  # noqa: ANN401
        """Show what is being done, as a context manager."""
        return self._console.status(f"{self._name}: {doing}")

    def add(self, path: str, what: str, unit: str, values: Sequence[float]) -> None:
        """Add a figure, measured once per round; see ``Figure``."""
        self._figures.append(Figure(path, what, unit, tuple(values)))

    def print(self) -> None:
        """Print the table, unless only JSON is wanted, and the JSON line."""
        if not self._console.stderr:
            self._console.print(self._table())
        print(json.dumps(self.as_json()))

    def as_json(self) -> dict[str, Any]:
        """The medians by path, with lowest and highest rounds under ``spread``."""
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
            place = result
            *parents, key = figure.path.split(".")
            for parent in parents:
                place = place.setdefault(parent, {})
            place[key] = _rounded(figure.median)
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
        for one in self._figures:
            numbers = (one.median, min(one.values), max(one.values))
            cells = [f"{_rounded(number):,}" for number in numbers]
            table.add_row(one.what, *cells, str(len(one.values)), one.unit)
        return table


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options all benchmarks share."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--quick", action="store_true", help="small and short: shows that it runs")
    made.add_argument("--json", action="store_true", help="stdout holds only the JSON line")
    return made


def rounds(count: int, *measures: Callable[[int], dict[str, float]]) -> dict[str, list[float]]:
    """Run measures in turn, ``count`` times, so that a disturbance meets all of them.

    Args:
        count: Rounds.
        measures: Each is called with the number of the round.

    Returns:
        Values of all rounds by name.
    """
    values: dict[str, list[float]] = {}
    for number in range(count):
        for measure in measures:
            for name, value in measure(number).items():
                values.setdefault(name, []).append(value)
    return values


def milliseconds(work: Callable[[], object], times: int = 1) -> float:
    """What a call takes: the median of so many."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(1000.0 * (time.perf_counter() - began))
    return statistics.median(taken)


def _rounded(number: float) -> float:
    """Four significant digits; whole numbers above a thousand."""
    if abs(number) >= 1000:
        return round(number)
    return float(f"{number:.4g}")
