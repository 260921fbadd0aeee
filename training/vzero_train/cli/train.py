"""``vzero train``: a head of your own."""

from pathlib import Path
from typing import Annotated

import typer

from vzero.cli import output as printed
from vzero.cli.lines import BadInput
from vzero_train.cli import heads, pretraining
from vzero_train.cli.inputs import Setup, outcomes_of, recipe_of


def train(
    what: Annotated[
        str,
        typer.Argument(
            metavar="OUTCOMES | tabpfn",
            help="Outcomes to learn from (Parquet); or 'tabpfn'.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")],
    config: Annotated[
        Path | None,
        typer.Option(help="The recipe (TOML); that of the shipped head by default, or of tabpfn."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training in --out.")
    ] = False,
    fold: Annotated[
        str | None,
        typer.Option(
            help="Fold of the recipe to leave out: its benchmarks, their prompts, 40 % of policies."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of weights and draws; that of the recipe by default.", min=0)
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="'packaged' (MiniLM), a folder, or a hub name with @revision or without."
        ),
    ] = "packaged",
    device: Annotated[str, typer.Option(help="Torch device, or auto.")] = "cpu",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps encoded prompts; --out by default.")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard event files.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
) -> None:
    """Train a head and write its checkpoint.

    OUTCOMES: an in-context head, on a Parquet file as for `vzero eval`.

    tabpfn: a small TabPFN, on synthetic tables: ten to twenty minutes of one core. It stands in for
    the weights of Prior Labs, and is no match for them.

    The state is kept in --out every few hundred steps; --resume goes on from it.
    """
    if what == "tabpfn":
        other = None if backbone == "packaged" else backbone
        for name, given in (("--fold", fold), ("--cache", cache), ("--backbone", other)):
            if given is not None:
                raise BadInput(f"{name} does not go with 'vzero train tabpfn'")
        pretraining.run(
            out,
            config=config,
            seed=seed,
            resume=resume,
            device=device,
            tensorboard=tensorboard,
            quiet=as_json,
        )
        return
    _train_on(
        Path(what),
        out,
        config=config,
        resume=resume,
        fold=fold,
        seed=seed,
        setup=Setup(backbone, device, cache=cache or out, quiet=as_json),
        tensorboard=tensorboard,
    )


def _train_on(
    outcomes: Path,
    out: Path,
    *,
    config: Path | None,
    resume: bool,
    fold: str | None,
    seed: int | None,
    setup: Setup,
    tensorboard: Path | None,
) -> None:
    """Train an in-context head on outcomes."""
    recipe = heads.seeded(recipe_of(config), seed)
    stem = config.stem if config is not None else "icl-minilm"
    path = out / f"{stem}{f'-without-{fold}' if fold else ''}.safetensors"
    heads.check_state(path, resume)
    given = outcomes_of(outcomes)
    left = given
    if fold is not None:
        from vzero_train.data.protocols import unseen_everything

        left = unseen_everything(given, heads.fold_of(recipe, fold, given)).train
        if not len(left):
            raise BadInput(f"--fold: nothing is left to train on without {fold!r}")
    encoder_backbone = setup.load_backbone()
    from vzero_server.model.prompt_encoder import LAYERS, PromptEncoder

    columns = setup.encode(given, PromptEncoder(encoder_backbone, LAYERS))
    fingerprint = heads.train(
        path,
        recipe,
        left,
        columns,
        encoder_backbone,
        setup,
        left_out=fold,
        tensorboard=tensorboard,
    )
    if setup.quiet:
        printed.document({"checkpoint": str(path), "fingerprint": fingerprint})
    else:
        printed.line(f"{path}: {fingerprint[:12]}")
