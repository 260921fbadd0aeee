"""``vzero eval routing``: routers compared on outcomes of several policies on the same prompts."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vzero.cli import output as printed
from vzero.cli.lines import BadInput
from vzero_train.cli import output
from vzero_train.cli.inputs import Setup, chosen, numbers, outcomes_of, progress

FEWEST_ASKED = 64


def run(
    path: Path | None,
    setup: Setup,
    *,
    routers: Sequence[str] | None,
    sizes: Sequence[str] | None,
    source: str | None,
    prompts: int,
    splits: int,
    sized: bool,
    out: Path | None,
) -> None:
    """Compare routers and print a table; write it with a plot if ``out`` is given.

    Args:
        path: Outcomes; None for the policy zoo.
        setup: Backbone, head, cache, seed.
        routers: Of ``experiments.routing.NAMES``.
        sizes: Numbers of known prompts; 512 by default.
        source: Only outcomes of this source.
        prompts: At most so many, drawn at random.
        splits: How many for each size.
        sized: Only policies of known size.
        out: Folder for pages.

    Raises:
        BadInput: A file or an option cannot be used.
    """
    from vzero_server.demo import zoo
    from vzero_server.model.prompt_encoder import PromptEncoder
    from vzero_train.data.columns import Columns
    from vzero_train.data.features import prompt_features
    from vzero_train.data.fleet import FleetError, fleet_of
    from vzero_train.experiments import routing

    names = chosen(routers, routing.NAMES, "--estimators")
    wanted = numbers(sizes, (512,), "--sizes")
    given = path or zoo()
    outcomes = outcomes_of(given)
    if source is not None:
        chosen([source], [str(name) for name in np.unique(outcomes.source)], "--source")
        outcomes = outcomes.where(outcomes.source == source)
    try:
        fleet = fleet_of(outcomes, sized=sized)
    except FleetError as error:
        raise BadInput(f"{given}: {error}") from error
    fleet = fleet.sample(prompts, np.random.default_rng([setup.seed, 0]))
    for size in wanted:
        if not 2 <= size <= len(fleet) - FEWEST_ASKED:
            raise BadInput(
                f"--sizes: {size} of {len(fleet)} prompts cannot be known: at least 2 must be, "
                f"and {FEWEST_ASKED} are left to route"
            )
    backbone = setup.load_backbone()
    checkpoint = setup.load_head(backbone)
    encoder = PromptEncoder(backbone, checkpoint.backbone.layers)
    with progress("prompts encoded", setup.quiet) as report:
        vectors = prompt_features(fleet.texts, encoder, cache=setup.cache, progress=report)
    columns = Columns.of(vectors, encoder)
    documents = []
    for size in wanted:
        many = f"n{size}" if len(wanted) > 1 else ""
        parts = (source or (path.stem if path else "zoo"), "sized" * sized, many)
        label = "-".join(re.sub(r"[^\w.]+", "-", part) for part in parts if part)
        options = {
            "--source": source,
            "--sizes": size,
            "--prompts": prompts,
            "--splits": splits,
            "--estimators": ",".join(routers) if routers else None,
            "--checkpoint": setup.checkpoint and "...",
        }
        command = " ".join(
            [
                "vzero eval routing",
                *([given.name] if path else []),
                *(["--sized"] if sized else []),
                *(f"{name} {value}" for name, value in options.items() if value is not None),
            ]
        )
        with progress(f"routers, {size} known prompts", setup.quiet) as report:
            reports, document = routing.run(
                fleet,
                columns,
                checkpoint,
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
        printed.document({"outcomes": str(given), "sizes": documents})
