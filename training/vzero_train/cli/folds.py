"""``vzero eval folds``: a recipe judged on policies, prompts and benchmarks it never saw."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vzero.cli import output as printed
from vzero.cli.lines import BadInput
from vzero_train.cli import heads, output
from vzero_train.cli.inputs import Report, Setup, chosen, numbers, outcomes_of, progress, recipe_of

if TYPE_CHECKING:
    from vzero_server.model.in_context_head import InContextHead
    from vzero_train.data.columns import Columns
    from vzero_train.data.protocols import Split
    from vzero_train.evaluation.evaluate import Answers
    from vzero_train.evaluation.judgement import Judgement


def run(
    path: Path,
    setup: Setup,
    *,
    config: Path | None,
    out: Path,
    estimators: Sequence[str] | None,
    sizes: Sequence[str] | None,
) -> None:
    """Train a head without each fold, judge all on what they never saw, and print it.

    Heads and encoded prompts are kept in ``out``: a run that was interrupted goes on, and a
    second run trains nothing.

    Raises:
        BadInput: An option or a file cannot be used, the recipe has no fold for the outcomes,
            or ``out`` holds heads of another recipe or of other outcomes.
    """
    from vzero_server.model.prompt_encoder import LAYERS, PromptEncoder
    from vzero_train.data.protocols import unseen_everything
    from vzero_train.evaluation.evaluate import Answers
    from vzero_train.evaluation.judgement import SIZES, Judgement
    from vzero_train.evaluation.lineup import NAMES

    started = time.monotonic()
    names = chosen(estimators, NAMES, "--estimators")
    wanted = numbers(sizes, SIZES, "--sizes")
    recipe = recipe_of(config)
    outcomes = outcomes_of(path)
    splits = {
        name: unseen_everything(outcomes, benchmarks)
        for name in recipe.folds
        if (benchmarks := recipe.held_out(name, outcomes))
    }
    if not splits:
        raise BadInput(f"{path}: holds no benchmark of a fold of the recipe")
    setup = replace(setup, cache=setup.cache or out)
    backbone = setup.load_backbone()
    columns = setup.encode(outcomes, PromptEncoder(backbone, LAYERS))
    answers: dict[str, dict[int, Answers]] = {}
    for name, split in splits.items():
        kept = out / f"without-{name}.safetensors"
        if not kept.is_file():
            heads.train(kept, recipe, split.train, columns, backbone, setup, left_out=name)
        checkpoint = replace(setup, checkpoint=kept).load_head(backbone)
        heads.check(kept, checkpoint, recipe, split.train)
        with progress(f"contexts of {name}", setup.quiet) as report:
            answers[name] = {
                size: given
                for size in wanted
                if (given := _asked(split, columns, checkpoint.head, names, size, setup, report))
            }
    found = [
        Judgement.of(size, Answers.joined(several), outcomes, seed=setup.seed)
        for size in wanted
        if (several := [of_fold[size] for of_fold in answers.values() if size in of_fold])
    ]
    if not found:
        raise BadInput(f"{path}: no fold holds outcomes enough for a context of {min(wanted)}")
    folds = {
        name: [
            Judgement.of(size, given, splits[name].test, seed=setup.seed)
            for size, given in of_fold.items()
        ]
        for name, of_fold in answers.items()
    }
    if setup.quiet:
        printed.document(
            {
                "outcomes": {"file": str(path), "rows": len(outcomes)},
                "steps": recipe.trainer.steps,
                "seed": setup.seed,
                "seconds": round(time.monotonic() - started, 1),
                "sizes": [judgement.document() for judgement in found],
                "folds": {
                    name: [judgement.document() for judgement in of_fold]
                    for name, of_fold in folds.items()
                },
            }
        )
        return
    for judgement in found:
        output.show(judgement)
    _show(folds)


def _asked(
    split: "Split",
    columns: "Columns",
    head: "InContextHead",
    names: Sequence[str],
    size: int,
    setup: Setup,
    report: Report,
) -> "Answers | None":
    """Answers to the questions of one fold at one size; None if its pools are too small."""
    from vzero_train.data.history import History
    from vzero_train.data.protocols import visits
    from vzero_train.evaluation.evaluate import ask_all
    from vzero_train.evaluation.judgement import questions_of
    from vzero_train.evaluation.lineup import Lineup

    questions = questions_of(split.test, size, setup.seed)
    if not questions:
        return None
    history = History(visits(split.test))
    lineup = Lineup(columns, head, history, split.test, split.train, seed=setup.seed)
    return ask_all(lineup.estimators(names), questions, report)


def _show(folds: "Mapping[str, Sequence[Judgement]]") -> None:
    """One line for each fold, size and estimator."""
    from vzero_train.evaluation.judgement import cell

    rows = [
        [name, str(judgement.size), one.name, cell(one.auc), cell(one.mse)]
        for name, judgements in folds.items()
        for judgement in judgements
        for one in judgement.reports
    ]
    output.plain(("fold", "N", "estimator", "AUC", "MSE"), rows)
