"""Table 1: methods that follow a GRPO run (sequential alignment)."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from research.tables.stages import Stage, sequential_alignment
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
from vzero_train.data.questions import Question
from vzero_train.evaluation.baselines import (
    ContextMean,
    Estimator,
    Head,
    LogisticRegression,
    Neighbours,
)
from vzero_train.evaluation.evaluate import Answers, Report, ask_all, judge
from vzero_train.evaluation.judgement import cell
from vzero_train.evaluation.sequential import (
    BufferedNeighbours,
    PreviousEpoch,
    StepwiseRetrain,
    VanillaValueModel,
)
from vzero_train.reports import pages

NAME = "table1"

FIGURES = {
    "AUC, all steps": "auc",
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
    """Judge V0 and the baselines step by step; write ``table1.md`` and ``.json``.

    Args:
        outcomes: Of policies along their steps; others are left out.
        backbone: Encoder of the prompts.
        out: Folder of results.
        checkpoint: Weights of V0; None for the shipped ones.
        cache: Folder of encoded prompts.
        label: Name of the outcomes, if they are not the policy zoo.
        seed: Of all draws.
        progress: Called with what is done, how much of it, and how much there is.

    Returns:
        What the JSON file holds.

    Raises:
        CheckpointError: The head cannot be used with this backbone.
        ValueError: No policy has two steps.
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
    stages = sequential_alignment(trial.outcomes)
    answers = ask_all(_methods(trial, stages), trial.questions(stages), trial.reported(NAME))
    first_epoch = {(stage.test.policy, stage.test.step) for stage in stages if stage.epoch == 0}
    difficulty = trial.outcomes.difficulty()
    whole = judge(answers, V0, difficulty=difficulty, by_prompt=True, seed=seed)
    beginning = answers.where(lambda question: (question.policy, question.step) in first_epoch)
    first = judge(beginning, V0, by_prompt=True, seed=seed)
    headers = ["method", "AUC, first epoch", *FIGURES, "AUC lead of V0", "MSE lead of V0"]
    body = [
        [line[0], cell(early.auc), *line[1:]]
        for line, early in zip(compared(whole, FIGURES), first, strict=True)
    ]
    text = (
        "# Table 1: value estimation along GRPO runs (sequential alignment)\n\n"
        f"{pages.markdown(headers, body)}\n\n{on_equal_terms(answers, seed)}\n\n"
        f"{_by_policy(answers, first_epoch, seed)}\n\n"
        f"{_METHOD.format(steps=len(answers.questions), rows=rows_of(answers.questions))}"
    )
    figures = {
        "all_steps": [one.document() for one in whole],
        "first_epoch": [one.document() for one in first],
    }
    return trial.write(out, NAME, text, figures)


def _methods(trial: Trial, stages: Sequence[Stage]) -> dict[str, Estimator]:
    columns = trial.columns
    earlier_steps = EarlierSteps(stage.test for stage in stages)
    first = {stage.test.policy: stage.held_out for stage in stages if stage.ordinal == 0}
    held_out = {(stage.test.policy, stage.test.step): stage.held_out for stage in stages}
    return {
        "Prev-Epoch": PreviousEpoch(earlier_steps),
        "prompt difficulty (the reward model's part)": trial.difficulty(stages),
        "kNN-contextual, FIFO of 2,048": BufferedNeighbours(columns.embeddings, earlier_steps),
        "kNN on the context": Neighbours(columns.embeddings),
        "logistic regression on the context": LogisticRegression(columns.embeddings),
        "context mean": ContextMean(),
        "vanilla value model": VanillaValueModel(
            columns.wide, earlier_steps, cold_start=first, seed=trial.seed
        ),
        RETRAIN: StepwiseRetrain(columns.wide, held_out, seed=trial.seed),
        V0: Head(trial.checkpoint.head, columns.features),
        V0_WHOLE: trial.reader(stages),
    }


def _by_policy(answers: Answers, first_epoch: set[tuple[str, int]], seed: int) -> str:
    """AUC of the first epoch and of all, pairwise accuracy and MSE, for each policy."""
    policies = sorted({question.policy for question in answers.questions})
    columns: dict[str, list[str]] = {}
    for policy in policies:
        of_policy = answers.where(partial(_is_of, policy))
        early = of_policy.where(lambda question: (question.policy, question.step) in first_epoch)
        for all_steps, first in zip(_quick(of_policy, seed), _quick(early, seed), strict=True):
            figures = (
                first.auc,
                all_steps.auc,
                all_steps.pairwise_lineage,
                all_steps.mse,
            )
            shown = " / ".join(f"{figure.estimate:.3f}" for figure in figures)
            columns.setdefault(all_steps.name, []).append(shown)
    body = [[name, *cells] for name, cells in columns.items()]
    return "By policy: AUC in the first epoch / AUC / pairwise accuracy / MSE.\n\n" + (
        pages.markdown(["method", *(f"`{policy}`" for policy in policies)], body)
    )


def _is_of(policy: str, question: Question) -> bool:
    return question.policy == policy


def _quick(answers: Answers, seed: int) -> list[Report]:
    return judge(answers, V0, by_prompt=True, resamples=1, seed=seed)


_METHOD = """\
{steps} steps of all policies. Judged are the prompts that a step visits, which are in no context
and no held-out set; a policy of nine or more steps visits a third of them per step and returns
after three, so that its first epoch is its first three steps. V0, kNN, logistic regression and
the mean read one context of the step's held-out rollouts, natural balance, {rows}; the last row
lets V0 read all of them. Prev-Epoch is the reward at the last visit, and the context mean for a
prompt not visited before. kNN-contextual keeps the visits of earlier steps and the context.
The vanilla value model is an MLP on the frozen backbone's embedding and text columns (the paper
trains the whole language model): 5 epochs on the first step's held-out rollouts and 5 on each
step's visits, MSE, batches of 32; it answers from the steps before. Step-wise retrain is the same
network, fresh at each step, 20 epochs on all held-out rollouts of that step. Prompt difficulty is
a ridge regression on the held-out rollouts of all policies and steps: it sees the prompt alone.
Nothing of V0 is trained here.

AUC is the mean over steps weighted by queries. Pairs are of one prompt under two checkpoints whose
rewards differ; equal values count half. Brackets are 95 % bootstrap intervals over prompts with
the policies as they are; leads are paired, positive where V0 is better."""
