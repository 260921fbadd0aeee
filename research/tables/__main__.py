"""``python -m research.tables``: the paper's tables and figures, measured here."""

import inspect
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from research.cli import run_command
from vzero.cli import output as printed
from vzero.cli.errors import BadInput
from vzero_train.cli.inputs import chosen, outcomes_of
from vzero_train.cli.options import (
    DEFAULT_BACKBONE,
    DEFAULT_DEVICE,
    AsJson,
    Backbone,
    Cache,
    Checkpoint,
    Device,
    Seed,
)
from vzero_train.cli.progress import stages
from vzero_train.cli.setup import Setup

NAMES = (
    *("table1", "table2", "table4", "table5", "table6", "table9", "figure4", "figure6"),
    "lineage",
)
"""Modules of ``research.tables`` that write a page."""

RESULTS = Path("research/results")

_WITH_TABPFN = ("table6",)


def tables(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Outcomes (Parquet); the policy zoo by default. The pages of other outcomes bear "
            "the name of their file.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Tables and figures, such as table1,figure4; all by default.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pages.")] = RESULTS,
    tabpfn: Annotated[
        Path | None,
        typer.Option(help="Weights of a TabPFN; table6 then also tunes connectors before it."),
    ] = None,
    checkpoint: Checkpoint = None,
    backbone: Backbone = DEFAULT_BACKBONE,
    device: Device = DEFAULT_DEVICE,
    cache: Cache = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Write the tables and figures of the paper, measured on outcomes of policies along steps."""
    from vzero_server.model.checkpoint import CheckpointError
    from vzero_train.data.zoo import zoo

    setup = Setup(backbone, device, checkpoint, cache, seed, quiet=as_json)
    names = chosen(only, NAMES, "--only")
    if tabpfn is not None and not set(names) & set(_WITH_TABPFN):
        raise BadInput(f"--tabpfn is for {', '.join(_WITH_TABPFN)}, not for {', '.join(names)}")
    outcomes = outcomes_of(file or zoo())
    loaded_backbone = setup.load_backbone()
    written = {}
    for name in names:
        run_one = import_module(f"research.tables.{name}").run
        started = time.monotonic()
        with stages(setup.quiet) as report:
            settings: dict[str, Any] = {
                "checkpoint": setup.checkpoint,
                "label": file.stem if file is not None else "",
                "seed": setup.seed,
                "progress": report,
                "tabpfn": tabpfn,
            }
            if setup.cache is not None:
                settings["cache"] = setup.cache
            # Those that train everything themselves take no checkpoint.
            known = inspect.signature(run_one).parameters
            settings = {key: value for key, value in settings.items() if key in known}
            try:
                written[name] = run_one(outcomes, loaded_backbone, out, **settings)
            except (CheckpointError, ValueError) as error:
                raise BadInput(f"{name}: {error}") from error
        if not setup.quiet:
            printed.line(f"{name}: {time.monotonic() - started:.0f} s, written to {out}")
    if setup.quiet:
        printed.document(written)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run_command(tables, "tables", arguments)


if __name__ == "__main__":
    main()
