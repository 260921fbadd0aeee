"""``vzero eval routing``: routers compared on outcomes of several policies on the same prompts."""

import re
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from vzero.cli import output as printed
from vzero.cli.errors import BadInput
from vzero_train.cli import output
from vzero_train.cli.inputs import chosen, numbers, outcomes_of
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
from vzero_train.cli.progress import progress
from vzero_train.cli.setup import Setup

FEWEST_ASKED = 64
_LEAST_KNOWN = 2


def routing(
    file: Annotated[
        Path | None,
        typer.Argument(help="Outcomes (Parquet); the policy zoo by default.", show_default=False),
    ] = None,
    estimators: Annotated[
        list[str] | None,
        typer.Option(help="Routers, separated by commas; all by default.", show_default=False),
    ] = None,
    sizes: Annotated[
        list[str] | None,
        typer.Option(
            help="Numbers of prompts with known outcomes, separated by commas; 512 by default.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[str | None, typer.Option(help="Use only outcomes of this source.")] = None,
    prompts: Annotated[
        int,
        typer.Option(
            help="Use at most this many prompts, drawn at random.", min=_LEAST_KNOWN + FEWEST_ASKED
        ),
    ] = 3000,
    splits: Annotated[int, typer.Option(help="Random splits per size.", min=1, max=100)] = 5,
    sized: Annotated[
        bool, typer.Option("--sized", help="Use only policies whose params_b is known.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a page, a plot and JSON; none by default.")
    ] = None,
    checkpoint: Checkpoint = None,
    backbone: Backbone = DEFAULT_BACKBONE,
    device: Device = DEFAULT_DEVICE,
    cache: Cache = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Choose a policy for each prompt, and compare accuracy and cost with other routers."""
    from vzero_server.model.prompt_encoder import PromptEncoder
    from vzero_train.data.columns import Columns
    from vzero_train.data.features import prompt_features
    from vzero_train.data.fleet import FleetError, fleet_of
    from vzero_train.data.zoo import zoo
    from vzero_train.reports import routing

    setup = Setup(backbone, device, checkpoint, cache, seed, quiet=as_json)
    names = chosen(estimators, routing.NAMES, "--estimators")
    wanted = numbers(sizes, (512,), "--sizes")
    path = file or zoo()
    outcomes = outcomes_of(path)
    if source is not None:
        chosen([source], [str(name) for name in np.unique(outcomes.source)], "--source")
        outcomes = outcomes.where(outcomes.source == source)
    try:
        fleet = fleet_of(outcomes, sized=sized)
    except FleetError as error:
        raise BadInput(f"{path}: {error}") from error
    fleet = fleet.sample(prompts, np.random.default_rng([setup.seed, 0]))
    for size in wanted:
        if not _LEAST_KNOWN <= size <= len(fleet) - FEWEST_ASKED:
            raise BadInput(
                f"--sizes: {size} of {len(fleet)} prompts cannot be known: at least "
                f"{_LEAST_KNOWN} must be, and {FEWEST_ASKED} are left to route"
            )
    loaded_backbone = setup.load_backbone()
    head = setup.load_head(loaded_backbone)
    encoder = PromptEncoder(loaded_backbone, head.backbone.layers)
    with progress("prompts encoded", setup.quiet) as report:
        vectors = prompt_features(fleet.texts, encoder, cache=setup.cache, progress=report)
    columns = Columns.of(vectors, encoder)
    documents = []
    for size in wanted:
        many = f"n{size}" if len(wanted) > 1 else ""
        parts = (source or (file.stem if file else "zoo"), "sized" * sized, many)
        label = "-".join(re.sub(r"[^\w.]+", "-", part) for part in parts if part)
        options = {
            "--source": source,
            "--sizes": size,
            "--prompts": prompts,
            "--splits": splits,
            "--estimators": ",".join(estimators) if estimators else None,
            "--checkpoint": setup.checkpoint and "...",
        }
        command = " ".join(
            [
                "vzero eval routing",
                *([path.name] if file else []),
                *(["--sized"] if sized else []),
                *(f"{name} {value}" for name, value in options.items() if value is not None),
            ]
        )
        with progress(f"routers, {size} known prompts", setup.quiet) as report:
            reports, document = routing.run(
                fleet,
                columns,
                head,
                out,
                label=label,
                command=command,
                routers=names,
                rows=size,
                splits=splits,
                seed=setup.seed,
                progress=report,
            )
        documents.append(document)
        if not setup.quiet:
            output.plain(*routing.lines(reports))
    if setup.quiet:
        printed.document({"outcomes": str(path), "sizes": documents})
