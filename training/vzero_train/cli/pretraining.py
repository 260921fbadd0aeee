"""``vzero train tabpfn``: a small TabPFN of one's own."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vzero.cli import output as printed
from vzero.cli.lines import BadInput
from vzero_train.cli import heads
from vzero_train.cli.inputs import progress
from vzero_train.cli.output import plain

if TYPE_CHECKING:
    from vzero_train.evaluation.pretrained import OnTables
    from vzero_train.training.tabpfn_recipe import TabPFNRecipe

_WIDTHS = (6, 24, 96, 384)


def run(
    out: Path,
    *,
    config: Path | None,
    seed: int | None,
    resume: bool,
    device: str,
    tensorboard: Path | None,
    quiet: bool,
) -> None:
    """Pre-train, write the checkpoint, and print how good it is on tables it has not seen.

    Args:
        out: Folder for the checkpoint, which is called as the recipe.
        config: The recipe; the shipped one by default.
        seed: Instead of the recipe's.
        resume: Go on with an interrupted training.
        device: Torch device, or ``auto``.
        tensorboard: Folder for the losses.
        quiet: No progress, and JSON instead of a table.

    Raises:
        BadInput: The recipe cannot be used, the state is of another one, or the package
            ``tabpfn`` is not installed.
    """
    recipe = _recipe(config)
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    path = out / f"{config.stem if config is not None else 'tabpfn-small'}.safetensors"
    heads.check_state(path, resume)
    try:
        from vzero_train.training.tabpfn_pretraining import TabPFNPretraining
    except ModuleNotFoundError as error:
        raise BadInput(
            "vzero train tabpfn needs the package tabpfn: pip install 'vzero[tabpfn]'"
        ) from error
    from vzero_server.paper.tabpfn_file import save_tabpfn
    from vzero_train.evaluation.pretrained import judge_pretrained

    out.mkdir(parents=True, exist_ok=True)
    state = heads.state_of(path)
    try:
        training = TabPFNPretraining(recipe, device=heads.device_of(device))
        with heads.followed("steps", recipe.steps, quiet, tensorboard) as on_step:
            training.train(state=state, on_step=on_step)
    except ValueError as error:
        raise BadInput(f"{config or path}: {error}") from error
    file = training.file(path)
    widths = [width for width in _WIDTHS if width <= recipe.columns] or [recipe.columns]
    with progress("tables judged", quiet) as report:
        judged = judge_pretrained(
            file, rows=recipe.rows, widths=widths, seed=recipe.seed, progress=report
        )
    figures = {name: [asdict(one) for one in several] for name, several in judged.items()}
    save_tabpfn(path, file, training={"recipe": asdict(recipe)}, metrics=figures)
    state.unlink(missing_ok=True)
    if quiet:
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
    from vzero_train.training.settings import RecipeError
    from vzero_train.training.tabpfn_recipe import RECIPE, load_tabpfn_recipe

    try:
        return load_tabpfn_recipe(path or RECIPE)
    except RecipeError as error:
        raise BadInput(str(error)) from error
