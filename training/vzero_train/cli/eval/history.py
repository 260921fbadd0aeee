"""``vzero eval history``: values with and without prompt history, along the steps of policies."""

import time
from pathlib import Path
from typing import Annotated

import typer

from vzero.cli import output as printed
from vzero.cli.errors import BadInput
from vzero_train.cli import output
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


def history(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Outcomes of policies along their steps (Parquet); the policy zoo by default.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a page and JSON; none by default.")
    ] = None,
    checkpoint: Checkpoint = None,
    backbone: Backbone = DEFAULT_BACKBONE,
    device: Device = DEFAULT_DEVICE,
    cache: Cache = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Predict each step of a policy from everything before it, with and without prompt history."""
    from vzero_train.data.zoo import zoo
    from vzero_train.reports import history

    setup = Setup(backbone, device, checkpoint, cache, seed, quiet=as_json)
    started = time.monotonic()
    loaded = setup.load(file or zoo())
    with stages(setup.quiet) as report:
        try:
            document = history.run(
                loaded.outcomes,
                loaded.checkpoint,
                loaded.columns.features,
                out,
                label=file.stem if file is not None else "",
                seed=setup.seed,
                progress=report,
            )
        except ValueError as error:
            raise BadInput(f"{file or 'the policy zoo'}: {error}") from error
    if setup.quiet:
        printed.document(document)
        return
    for sequence in document["sequences"]:
        printed.line(f"{sequence['how']}:")
        output.plain(*history.lines(sequence))
    seconds = time.monotonic() - started
    printed.line(f"history: {seconds:.0f} s" + (f", written to {out}" if out else ""))
