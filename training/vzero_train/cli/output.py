"""Tables that ``vzero eval`` prints."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from vzero_train.evaluation.judgement import Judgement

# Width of tables in a file or a pipe, where they must not be truncated.
_WIDTH = 160

_FIGURES = ("AUC", "pairwise accuracy", "of one policy", "MSE", "ECE")
_RESIDUALS = ("residual with prior", "with difficulty")


def show(judgement: "Judgement") -> None:
    """Print a judgement as two tables: figures; residuals and leads."""
    from vzero_train.evaluation.judgement import COLUMNS, cell, rows
    from vzero_train.evaluation.lineup import JUDGED

    title = (
        f"N = {judgement.size}: {judgement.contexts} contexts, {judgement.queries:,} queries; "
        "95 % intervals"
    )
    figures = _table(title, ("estimator", *_FIGURES))
    for line in rows(judgement.reports, [COLUMNS[name] for name in _FIGURES]):
        figures.add_row(*line)
    _print(figures)
    leads = _table(
        f"N = {judgement.size}: rank correlations of (value - reward); paired leads of {JUDGED}",
        ("estimator", *_RESIDUALS, "AUC lead", "pairwise lead", "MSE lead"),
    )
    residuals = rows(judgement.reports, [COLUMNS[name] for name in _RESIDUALS])
    for report, line in zip(judgement.reports, residuals, strict=True):
        leads_of_report = [report.leads.get(name) for name in ("auc", "pairwise", "mse")]
        cells = ["" if lead is None else cell(lead) for lead in leads_of_report]
        leads.add_row(*line, *cells)
    _print(leads)


def plain(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table without a title."""
    table = _table(None, headers)
    for row in rows:
        table.add_row(*row)
    _print(table)


def _table(title: str | None, headers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index else "left", no_wrap=not index)
    return table


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
