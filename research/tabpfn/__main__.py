"""``python -m research.tabpfn``: pre-train a small TabPFN on synthetic tables."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from research.cli import run_command
from vzero.cli import output as printed
from vzero.cli.errors import BadInput
from vzero_train.cli import heads
from vzero_train.cli.options import DEFAULT_DEVICE, AsJson, Device, Tensorboard
from vzero_train.cli.output import plain
from vzero_train.cli.progress import progress

if TYPE_CHECKING:
    from research.tabpfn.evaluation import OnTables
    from research.tabpfn.recipe import TabPFNRecipe

_WIDTHS = (6, 24, 96, 384)


def tabpfn(
    out: Annotated[
        Path, typer.Option(help="Folder for the checkpoint, which is named after the recipe.")
    ],
    config: Annotated[
        Path | None, typer.Option(help="Recipe (TOML); the shipped one by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted training in --out.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of weights and draws; that of the recipe by default.", min=0),
    ] = None,
    device: Device = DEFAULT_DEVICE,
    tensorboard: Tensorboard = None,
    as_json: AsJson = False,
) -> None:
    """Pre-train a small TabPFN, write its checkpoint and evaluate it on tables it has not seen.

    It takes ten to twenty minutes of one core, and replaces the weights of Prior Labs in
    experiments; its values are clearly worse than theirs.
    """
    recipe = _recipe(config)
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    path = out / f"{config.stem if config is not None else 'tabpfn-small'}.safetensors"
    heads.check_state(path, resume)
    try:
        from research.tabpfn.pretraining import TabPFNPretraining
    except ModuleNotFoundError as error:
        raise BadInput(
            "research.tabpfn needs the package tabpfn: pip install 'vzero[tabpfn]'"
        ) from error
    from research.tabpfn.evaluation import judge_pretrained
    from vzero_server.model.device import resolve_device
    from vzero_server.paper.tabpfn_file import save_tabpfn

    out.mkdir(parents=True, exist_ok=True)
    state = heads.state_of(path)
    try:
        training = TabPFNPretraining(recipe, device=resolve_device(device))
        with heads.followed("steps", recipe.steps, as_json, tensorboard) as on_step:
            training.train(state=state, on_step=on_step)
    except ValueError as error:
        raise BadInput(f"{config or path}: {error}") from error
    file = training.file(path)
    widths = [width for width in _WIDTHS if width <= recipe.columns] or [recipe.columns]
    with progress("tables judged", as_json) as report:
        judged = judge_pretrained(
            file, rows=recipe.rows, widths=widths, seed=recipe.seed, progress=report
        )
    figures = {name: [asdict(one) for one in several] for name, several in judged.items()}
    save_tabpfn(path, file, training={"recipe": asdict(recipe)}, metrics=figures)
    state.unlink(missing_ok=True)
    if as_json:
        printed.document({"checkpoint": str(path), "tables": figures})
    else:
        _show(judged)
        printed.line(f"{path}: reads {recipe.columns} columns and {recipe.rows} rows at most")


def _show(judged: "Mapping[str, list[OnTables]]") -> None:
    from vzero_train.evaluation.judgement import cell

    titles = [f"{figure} of {name}" for name in judged for figure in ("AUC", "loss")]
    rows = []
    for several in zip(*judged.values(), strict=True):
        cells = [cell(figure) for one in several for figure in (one.auc, one.loss)]
        rows.append((str(several[0].columns), *cells))
    plain(("columns", *titles), rows)


def _recipe(path: Path | None) -> "TabPFNRecipe":
    from research.tabpfn.recipe import RECIPE, load_tabpfn_recipe
    from vzero_train.training.settings import RecipeError

    try:
        return load_tabpfn_recipe(path or RECIPE)
    except RecipeError as error:
        raise BadInput(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run_command(tabpfn, "tabpfn", arguments)


if __name__ == "__main__":
    main()
