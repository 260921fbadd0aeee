"""``vzero train``: an in-context head trained on a user's outcomes."""

from pathlib import Path
from typing import Annotated

import typer

from vzero.cli import output as printed
from vzero.cli.errors import BadInput
from vzero_train.cli import heads
from vzero_train.cli.inputs import outcomes_of, recipe_of
from vzero_train.cli.options import (
    DEFAULT_BACKBONE,
    DEFAULT_DEVICE,
    AsJson,
    Backbone,
    Device,
    Tensorboard,
)
from vzero_train.cli.setup import Setup


def train(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="OUTCOMES", help="Outcomes to learn from (Parquet).", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Recipe (TOML); that of the shipped head by default."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training in --out.")
    ] = False,
    fold: Annotated[
        str | None,
        typer.Option(
            help="Fold of the recipe to leave out: its benchmarks, their prompts, 40 % of policies."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of weights and draws; that of the recipe by default.", min=0),
    ] = None,
    backbone: Backbone = DEFAULT_BACKBONE,
    device: Device = DEFAULT_DEVICE,
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps encoded prompts; --out by default.")
    ] = None,
    tensorboard: Tensorboard = None,
    as_json: AsJson = False,
) -> None:
    """Train an in-context head on an outcomes file and write its checkpoint.

    The file is the same as for `vzero eval outcomes`. The training state is saved in --out every
    few hundred steps; --resume continues from it.
    """
    setup = Setup(backbone, device, cache=cache or out, quiet=as_json)
    recipe = heads.seeded(recipe_of(config), seed)
    stem = config.stem if config is not None else "icl-minilm"
    path = out / f"{stem}{f'-without-{fold}' if fold else ''}.safetensors"
    heads.check_state(path, resume)
    outcomes = outcomes_of(file)
    training = outcomes
    if fold is not None:
        from vzero_train.data.splits import unseen_everything

        training = unseen_everything(outcomes, heads.fold_of(recipe, fold, outcomes)).train
        if not len(training):
            raise BadInput(f"--fold: nothing is left to train on without {fold!r}")
    loaded_backbone = setup.load_backbone()
    from vzero_server.model.prompt_encoder import LAYERS, PromptEncoder

    columns = setup.encode(outcomes, PromptEncoder(loaded_backbone, LAYERS))
    fingerprint = heads.train(
        path,
        recipe,
        training,
        columns,
        loaded_backbone,
        setup,
        fold=fold,
        tensorboard=tensorboard,
    )
    if setup.quiet:
        printed.document({"checkpoint": str(path), "fingerprint": fingerprint})
    else:
        printed.line(f"{path}: {fingerprint[:12]}")
