"""Table 9: how much a larger context helps."""

from pathlib import Path
from typing import Any

import numpy as np

from research.tables.stages import strict_generalisation
from research.tables.trial import Progress, Trial
from vzero_server.model.backbone import Backbone
from vzero_train.data.outcomes import Outcomes
from vzero_train.data.questions import Question
from vzero_train.evaluation.baselines import (
    ContextMean,
    Estimator,
    Head,
    LogisticRegression,
    Neighbours,
)
from vzero_train.evaluation.evaluate import ask_all, judge
from vzero_train.evaluation.judgement import cell
from vzero_train.reports import pages

NAME = "table9"

SIZES = (16, 32, 64, 128, 256, 512, 1024)

V0 = "V0"

_FIGURES = {"AUC": "auc", "pairwise accuracy": "pairwise", "of one policy": "pairwise_lineage"}


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
    """Judge the same queries under growing contexts; write ``table9.md`` and ``.json``.

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
    columns = trial.columns
    methods: dict[str, Estimator] = {
        V0: Head(trial.checkpoint.head, columns.features),
        "logistic regression": LogisticRegression(columns.embeddings),
        "kNN": Neighbours(columns.embeddings),
        "context mean": ContextMean(),
    }
    whole = _whole(trial)
    body, figures = [], []
    for size in SIZES:
        questions = [_shortened(question, size) for question in whole]
        if any(len(question.context) < size for question in questions):
            break
        answers = ask_all(methods, questions, trial.reported(f"{NAME}, N = {size}"))
        reports = judge(answers, V0, by_prompt=True, seed=seed)
        figures.append({"size": size, "methods": [one.document() for one in reports]})
        own, logistic, nearest, mean = reports
        body.append(
            [
                str(size),
                *(cell(getattr(own, name)) for name in _FIGURES.values()),
                cell(own.mse),
                f"{logistic.auc.estimate:.3f} / {logistic.mse.estimate:.3f}",
                f"{nearest.auc.estimate:.3f} / {nearest.mse.estimate:.3f}",
                f"{mean.mse.estimate:.3f}",
                cell(logistic.leads["auc"]),
            ]
        )
    headers = [
        "N",
        *_FIGURES,
        "MSE",
        "logistic regression: AUC / MSE",
        "kNN: AUC / MSE",
        "context mean: MSE",
        "AUC lead over logistic regression",
    ]
    table = pages.markdown(headers, body)
    text = f"# Table 9: context size\n\n{table}\n\n{_METHOD.format(contexts=len(whole))}"
    return trial.write(out, NAME, text, {"sizes": figures})


def _whole(trial: Trial) -> list[Question]:
    """Questions with all there is for a context, in random order."""
    rng = np.random.default_rng(trial.seed)
    questions = []
    for stage in strict_generalisation(trial.outcomes):
        order = rng.permutation(len(stage.held_out))
        questions.append(
            Question(
                policy=stage.test.policy,
                step=stage.test.step,
                benchmark=stage.test.benchmark,
                context=stage.held_out.prompt[order],
                context_rewards=stage.held_out.reward[order],
                queries=stage.test.prompt,
                rewards=stage.test.reward,
            )
        )
    return [question for question in questions if len(question.queries)]


def _shortened(question: Question, size: int) -> Question:
    return Question(
        policy=question.policy,
        step=question.step,
        benchmark=question.benchmark,
        context=question.context[:size],
        context_rewards=question.context_rewards[:size],
        queries=question.queries,
        rewards=question.rewards,
    )


_METHOD = """\
One context of each of {contexts} checkpoints grows row by row; the queries, one prompt of five,
stay the same and are in no context. Below N = 65 kNN averages the nearest quarter of the context.
Pairs are of one prompt under two checkpoints whose rewards differ. Brackets are 95 % bootstrap
intervals over prompts with the policies as they are."""
