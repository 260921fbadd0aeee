"""One window along a policy's training: what it is worth to know how old each outcome is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from research.tables.lineage_questions import lineages
from research.tables.trial import Progress, Trial
from vzero_server.model.backbone import Backbone
from vzero_train.data.earlier_steps import EarlierSteps
from vzero_train.data.outcomes import Outcomes
from vzero_train.data.questions import Question
from vzero_train.data.visits import visits
from vzero_train.evaluation.baselines import ContextMean, Estimator, Head, Neighbours
from vzero_train.evaluation.evaluate import Answers, ask_all, judge
from vzero_train.evaluation.judgement import cell
from vzero_train.evaluation.sequential import PreviousEpoch
from vzero_train.reports import pages

NAME = "lineage"
PER_STEP = (64,)
"""Outcomes that each step adds to the window."""

SERVED = 512
"""Newest rows that the server reads by default."""

NEWEST = 256
"""Rows of the younger kNN."""

V0 = "**V0** (`icl`)"
_TIMELESS, _SHUFFLED = "V0, ages unknown", "V0, ages shuffled"
_SERVED, _SERVED_TIMELESS = f"V0, newest {SERVED}", f"V0, newest {SERVED}, ages unknown"
_FIGURES = {
    "AUC": "auc",
    "pairwise accuracy": "pairwise",
    "of one policy": "pairwise_lineage",
    "MSE": "mse",
}
_LEADS = {"AUC lead": "auc", "lead of one policy": "pairwise_lineage", "MSE lead": "mse"}


def run(
    outcomes: Outcomes,
    backbone: Backbone,
    out: Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    cache: Path | None = None,
    checkpoint: Path | None = None,
    label: str = "",
) -> dict[str, Any]:
    """Ask the head with and without ages; write ``lineage.md`` and ``lineage.json``.

    Arguments and return value are those of ``table1.run``.
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
    sections, figures = [], []
    for per_step in PER_STEP:
        questions = lineages(trial.outcomes, per_step, seed=seed)
        answers = _asked(trial, questions, per_step)
        reports = judge(answers, V0, by_prompt=True, seed=seed)
        body = [
            [
                one.name,
                *(cell(getattr(one, name), 4) for name in _FIGURES.values()),
                *(cell(one.leads.get(name), 4) if one.leads else "" for name in _LEADS.values()),
            ]
            for one in reports
        ]
        table = pages.markdown(["method", *_FIGURES, *_LEADS], body)
        rows = max(len(question.context) for question in questions)
        sections.append(f"{per_step} outcomes per step, windows of up to {rows:,}:\n\n{table}")
        figures.append({"per_step": per_step, "methods": [one.document() for one in reports]})
    text = "\n\n".join(["# One window along a policy's training", *sections, _METHOD])
    return trial.write(out, NAME, text, {"windows": figures})


def _asked(trial: Trial, questions: Sequence[Question], per_step: int) -> Answers:
    """Every method's answers to the questions, each method with the context it reads."""
    rng = np.random.default_rng([trial.seed, per_step])
    head = Head(trial.checkpoint.head, trial.columns.features)
    near = Neighbours(trial.columns.embeddings)
    served = [_newest(question, SERVED) for question in questions]
    shuffled = [_shuffled(question, rng) for question in questions]
    methods: Mapping[str, tuple[Estimator, Sequence[Question]]] = {
        V0: (head, questions),
        _TIMELESS: (head, _timeless(questions)),
        _SHUFFLED: (head, shuffled),
        _SERVED: (head, served),
        _SERVED_TIMELESS: (head, _timeless(served)),
        "kNN": (near, questions),
        f"kNN, newest {NEWEST}": (near, [_newest(q, NEWEST) for q in questions]),
        "Prev-Epoch": (PreviousEpoch(EarlierSteps(visits(trial.outcomes))), questions),
        "context mean": (ContextMean(), questions),
    }
    values = {}
    for name, (estimator, questions_of_method) in methods.items():
        report = trial.reported(f"{NAME}, {per_step} per step, {name}")
        values[name] = ask_all({name: estimator}, questions_of_method, report).values[name]
    return Answers(questions, values)


def _newest(question: Question, rows: int) -> Question:
    ages = question.ages
    return replace(
        question,
        context=question.context[-rows:],
        context_rewards=question.context_rewards[-rows:],
        ages=None if ages is None else ages[-rows:],
    )


def _shuffled(question: Question, rng: np.random.Generator) -> Question:
    ages = question.ages
    return replace(question, ages=None if ages is None else rng.permutation(ages))


def _timeless(questions: Sequence[Question]) -> list[Question]:
    return [replace(question, ages=None) for question in questions]


_METHOD = """\
Each step of a policy adds its outcomes to one window, the newest 2,048 count, and the policy is
asked for prompts that its window never holds. The prompts are divided into five parts, each
reserved in one of five such streams, so that every prompt is judged once per policy and step. An
outcome is as old as there are rows of later steps in the window; *ages unknown* reads the same
rows as if they were of one moment, *ages shuffled* gives them each other's ages. Prev-Epoch
alone knows the judged prompts: it answers with their reward at the step before, and with the
context's mean at the first.

AUC is the mean over windows weighted by queries. Pairs are of one prompt under two checkpoints
whose rewards differ; equal values count half. Brackets are 95 % bootstrap intervals over prompts
with the policies as they are; leads are paired, positive where V0 is better."""
