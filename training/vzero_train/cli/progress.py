"""Progress bars on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from vzero_train.progress import Progress, StageProgress


@contextmanager
def progress(description: str, quiet: bool) -> Iterator[Progress]:
    """Show a progress bar, unless ``quiet`` or without a terminal; yields its update function."""
    with _bar(quiet) as bar:
        task = bar.add_task(description, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report


@contextmanager
def stages(quiet: bool) -> Iterator[StageProgress]:
    """Show one progress bar for work in named parts; like ``progress``."""
    with _bar(quiet) as bar:
        task = bar.add_task("", total=None)

        def report(part: str, done: int, total: int) -> None:
            bar.update(task, description=part, completed=done, total=total)

        yield report


def _bar(quiet: bool) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
