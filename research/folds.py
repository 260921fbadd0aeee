"""``python -m research.folds``: a recipe evaluated on unseen policies, prompts and benchmarks."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from research.cli import run_command
from vzero.cli import output as printed
from vzero.cli.errors import BadInput
from vzero_train.cli import heads, output
from vzero_train.cli.inputs import chosen, numbers, outcomes_of, recipe_of
from vzero_train.cli.options import (
    DEFAULT_BACKBONE,
    DEFAULT_DEVICE,
    AsJson,
    Backbone,
    Cache,
    Device,
    Estimators,
    Seed,
    Sizes,
)
from vzero_train.cli.progress import progress
from vzero_train.cli.setup import Setup

if TYPE_CHECKING:
    from vzero_server.model.in_context_head import InContextHead
    from vzero_train.data.columns import Columns
    from vzero_train.data.splits import Split
    from vzero_train.evaluation.evaluate import Answers
    from vzero_train.evaluation.judgement import Judgement
    from vzero_train.progress import Progress


def folds(
    file: Annotated[Path, typer.Argument(help="Outcomes (Parquet).", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder that keeps the heads of the folds.")],
    config: Annotated[
        Path | None, typer.Option(help="Recipe (TOML); the shipped one by default.")
    ] = None,
    estimators: Estimators = None,
    sizes: Sizes = None,
    backbone: Backbone = DEFAULT_BACKBONE,
    device: Device = DEFAULT_DEVICE,
    cache: Cache = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a head without each fold of a recipe, and evaluate it on what it never saw.

    Heads and encoded prompts are kept in --out: an interrupted run continues, and a second run
    trains nothing.
    """
    from vzero_server.model.prompt_encoder import LAYERS, PromptEncoder
    from vzero_train.data.splits import unseen_everything
    from vzero_train.evaluation.evaluate import Answers
    from vzero_train.evaluation.judgement import SIZES, Judgement
    from vzero_train.evaluation.lineup import NAMES

    setup = Setup(backbone, device, None, cache or out, seed, quiet=as_json)
    started = time.monotonic()
    names = chosen(estimators, NAMES, "--estimators")
    wanted = numbers(sizes, SIZES, "--sizes")
    recipe = recipe_of(config)
    outcomes = outcomes_of(file)
    splits = {
        name: unseen_everything(outcomes, benchmarks)
        for name in recipe.folds
        if (benchmarks := recipe.held_out(name, outcomes))
    }
    if not splits:
        raise BadInput(f"{file}: holds no benchmark of a fold of the recipe")
    loaded_backbone = setup.load_backbone()
    columns = setup.encode(outcomes, PromptEncoder(loaded_backbone, LAYERS))
    answers: dict[str, dict[int, Answers]] = {}
    for name, split in splits.items():
        kept = out / f"without-{name}.safetensors"
        if not kept.is_file():
            heads.train(kept, recipe, split.train, columns, loaded_backbone, setup, fold=name)
        checkpoint = replace(setup, checkpoint=kept).load_head(loaded_backbone)
        heads.check(kept, checkpoint, recipe, split.train)
        with progress(f"contexts of {name}", setup.quiet) as report:
            answers[name] = {
                size: given
                for size in wanted
                if (given := _asked(split, columns, checkpoint.head, names, size, setup, report))
            }
    judgements = [
        Judgement.of(size, Answers.joined(several), outcomes, seed=setup.seed)
        for size in wanted
        if (several := [of_fold[size] for of_fold in answers.values() if size in of_fold])
    ]
    if not judgements:
        raise BadInput(f"{file}: no fold holds outcomes enough for a context of {min(wanted)}")
    by_fold = {
        name: [
            Judgement.of(size, given, splits[name].test, seed=setup.seed)
            for size, given in of_fold.items()
        ]
        for name, of_fold in answers.items()
    }
    if setup.quiet:
        printed.document(
            {
                "outcomes": {"file": str(file), "rows": len(outcomes)},
                "steps": recipe.trainer.steps,
                "seed": setup.seed,
                "seconds": round(time.monotonic() - started, 1),
                "sizes": [judgement.document() for judgement in judgements],
                "folds": {
                    name: [judgement.document() for judgement in of_fold]
                    for name, of_fold in by_fold.items()
                },
            }
        )
        return
    for judgement in judgements:
        output.show(judgement)
    _show(by_fold)


def _asked(
    split: "Split",
    columns: "Columns",
    head: "InContextHead",
    names: Sequence[str],
    size: int,
    setup: Setup,
    report: "Progress",
) -> "Answers | None":
    """Answers to the questions of one fold at one size; None if its pools are too small."""
    from vzero_train.data.earlier_steps import EarlierSteps
    from vzero_train.data.visits import visits
    from vzero_train.evaluation.evaluate import ask_all
    from vzero_train.evaluation.judgement import questions_of
    from vzero_train.evaluation.lineup import Lineup

    questions = questions_of(split.test, size, setup.seed)
    if not questions:
        return None
    earlier_steps = EarlierSteps(visits(split.test))
    lineup = Lineup(columns, head, earlier_steps, split.test, split.train, seed=setup.seed)
    return ask_all(lineup.estimators(names), questions, report)


def _show(folds: "Mapping[str, Sequence[Judgement]]") -> None:
    """One line for each fold, size and estimator."""
    from vzero_train.evaluation.judgement import cell

    rows = [
        [name, str(judgement.size), one.name, cell(one.auc), cell(one.mse)]
        for name, of_fold in folds.items()
        for judgement in of_fold
        for one in judgement.reports
    ]
    output.plain(("fold", "N", "estimator", "AUC", "MSE"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    run_command(folds, "folds", arguments)


if __name__ == "__main__":
    main()
