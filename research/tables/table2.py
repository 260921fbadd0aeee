"""Table 2: prompts that no training step has seen (strict generalisation)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research.tables.stages import Stage, strict_generalisation
from research.tables.trial import (
    RETRAIN,
    V0,
    V0_WHOLE,
    Progress,
    Trial,
    compared,
    on_equal_terms,
    rows_of,
)
from vzero_server.model.backbone import Backbone
from vzero_train.data.earlier_steps import EarlierSteps
from vzero_train.data.outcomes import Outcomes
from vzero_train.evaluation.baselines import (
    ContextMean,
    Estimator,
    Head,
    LogisticRegression,
    Neighbours,
)
from vzero_train.evaluation.evaluate import ask_all, judge
from vzero_train.evaluation.sequential import StepwiseRetrain, VanillaValueModel
from vzero_train.reports import pages

NAME = "table2"

FIGURES = {
    "AUC": "auc",
    "pairwise accuracy": "pairwise",
    "of one policy": "pairwise_lineage",
    "MSE": "mse",
}


def run(
    outcomes: Outcomes,
    backbone: Backbone,
    out: Path,
    *,
    checkpoint: Path | None = None,
    cache: Path | None = None,
    label: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge V0 and the baselines on reserved prompts; write ``table2.md`` and ``.json``.

    Arguments, return value and errors are those of ``table1.run``.
    """
    trial = Trial.of(
        outcomes,
        backbone,
        checkpoint=checkpoint,
        cache=cache,
        label=label,
        seed=seed,
        progress=progress,
    )
    stages = strict_generalisation(trial.outcomes)
    answers = ask_all(_methods(trial, stages), trial.questions(stages), trial.reported(NAME))
    reports = judge(answers, V0, by_prompt=True, seed=seed)
    headers = ["method", *FIGURES, "AUC lead of V0", "MSE lead of V0"]
    tested = sum(len(question.queries) for question in answers.questions)
    text = (
        "# Table 2: prompts never seen, at any step (strict generalisation)\n\n"
        f"{pages.markdown(headers, compared(reports, FIGURES))}\n\n"
        f"{on_equal_terms(answers, seed)}\n\n"
        f"{_METHOD.format(rows=rows_of(answers.questions), tested=tested)}"
    )
    return trial.write(out, NAME, text, {"methods": [one.document() for one in reports]})


def _methods(trial: Trial, stages: Sequence[Stage]) -> dict[str, Estimator]:
    columns, seed = trial.columns, trial.seed
    wide = columns.wide
    first = [stage for stage in stages if stage.ordinal == 0]
    later = [stage for stage in stages if stage.ordinal]
    held_out = {(stage.test.policy, stage.test.step): stage.held_out for stage in stages}
    return {
        "vanilla value model, balanced": VanillaValueModel(
            wide,
            EarlierSteps(stage.training for stage in later),
            cold_start={stage.test.policy: stage.training for stage in first},
            seed=seed,
        ),
        "vanilla value model, natural balance": VanillaValueModel(
            wide,
            EarlierSteps(stage.held_out for stage in later),
            cold_start={stage.test.policy: stage.held_out for stage in first},
            seed=seed,
        ),
        RETRAIN: StepwiseRetrain(wide, held_out, seed=seed),
        "prompt difficulty": trial.difficulty(stages),
        "kNN on the context": Neighbours(columns.embeddings),
        "logistic regression on the context": LogisticRegression(columns.embeddings),
        "context mean": ContextMean(),
        V0: Head(trial.checkpoint.head, columns.features),
        V0_WHOLE: trial.reader(stages),
    }


_METHOD = """\
One prompt of five is reserved for the test at every step of every policy ({tested:,} test
outcomes); no method has seen it before. V0, kNN, logistic regression and the mean read a context
of the same step, {rows}; the last row lets V0 read all outcomes of the step's other prompts.
The vanilla value model is an MLP on frozen features (in the paper the whole language model) that
answers from the steps before: 5 epochs on the first step, 5 more on each; balanced: on the
protocol's training sets, 1:1; natural: on all outcomes of the other prompts. Step-wise retrain is
fitted on all of them at the step itself, 20 epochs. Prompt difficulty is a ridge regression on
those of all policies and steps. Nothing of V0 is trained here.

Pairs are of one prompt under two checkpoints whose rewards differ; equal values count half.
Brackets are 95 % bootstrap intervals over prompts with the policies as they are; leads are paired,
positive where V0 is better."""
