"""Estimators compared on the same questions, with bootstrap intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from vzero_server.types import AnyFloatArray, FloatArray
from vzero_train.data.questions import Question
from vzero_train.evaluation.baselines import Estimator
from vzero_train.evaluation.metrics import pair_credit, prompt_pairs
from vzero_train.evaluation.resampling import Interval, Resampling

LEADS = {"auc": 1.0, "pairwise": 1.0, "pairwise_lineage": 1.0, "mse": -1.0, "ece": -1.0}
"""Figures that are compared: 1 if higher is better, -1 if lower is."""


@dataclass(frozen=True)
class Answers:
    """Questions, and the values of every estimator.

    Attributes:
        questions: The questions.
        values: By estimator, an array ``[queries]`` for each question.
    """

    questions: Sequence[Question]
    values: Mapping[str, Sequence[AnyFloatArray]]

    def where(self, kept: Callable[[Question], bool]) -> "Answers":
        """Return the answers to the questions for which ``kept`` is true."""
        chosen = [index for index, question in enumerate(self.questions) if kept(question)]
        return Answers(
            [self.questions[index] for index in chosen],
            {name: [given[index] for index in chosen] for name, given in self.values.items()},
        )

    @classmethod
    def joined(cls, several: Sequence["Answers"]) -> "Answers":
        """Concatenate answers of the same estimators."""
        return cls(
            [question for one in several for question in one.questions],
            {
                name: [values for one in several for values in one.values[name]]
                for name in several[0].values
            },
        )


@dataclass(frozen=True)
class Report:
    """Figures of one estimator over all questions.

    Attributes:
        name: The estimator.
        auc: Intra-context AUC, mean over contexts weighted by queries.
        pairwise: Pairwise accuracy: share of pairs of checkpoints in the right order for a prompt.
        pairwise_lineage: The same for pairs of checkpoints of one policy.
        mse: Mean squared error against the rewards.
        ece: Expected calibration error of all values together.
        with_prior: Spearman correlation of (value - reward) with the context's mean reward
            (Eq. 26).
        with_difficulty: The same with the prompt's mean reward over all policies (Eq. 27).
        leads: Paired lead of the judged estimator over this one, by figure of ``LEADS``; positive
            is better. Empty for the judged one.
    """

    name: str
    auc: Interval
    pairwise: Interval
    pairwise_lineage: Interval
    mse: Interval
    ece: Interval
    with_prior: Interval
    with_difficulty: Interval
    leads: Mapping[str, Interval]

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values; NaN becomes None."""
        figures = {name: value for name, value in vars(self).items() if name != "leads"}
        return {
            **{
                name: _document(value) if isinstance(value, Interval) else value
                for name, value in figures.items()
            },
            "leads": {name: _document(value) for name, value in self.leads.items()},
        }


def ask_all(
    estimators: Mapping[str, Estimator],
    questions: Sequence[Question],
    progress: Callable[[int, int], None] | None = None,
) -> Answers:
    """Ask every estimator every question.

    Args:
        estimators: By name.
        questions: Of any policies and steps.
        progress: Called with the number of answered questions and of all.
    """
    values: dict[str, list[AnyFloatArray]] = {name: [] for name in estimators}
    for done, question in enumerate(questions, start=1):
        for name, estimator in estimators.items():
            values[name].append(np.asarray(estimator(question), dtype=np.float64))
        if progress:
            progress(done, len(questions))
    return Answers(questions, values)


def judge(
    answers: Answers,
    judged: str,
    *,
    difficulty: AnyFloatArray | None = None,
    by_prompt: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Report]:
    """Compute figures and intervals of all estimators.

    The bootstrap resamples clusters of one policy on one benchmark, whose rows are not
    independent. With ``by_prompt``, for few policies, it resamples prompts with all their rows.
    Pairs of checkpoints are resampled by prompt.

    Args:
        answers: Answers to questions of one context size.
        judged: Name of the estimator the others are compared with.
        difficulty: Mean reward of every prompt over the test policies, ``[prompts]``.
        by_prompt: See above.
        resamples: Number of resamples of the bootstrap.
        seed: Seed of the bootstrap.
    """
    sheet = _Sheet(answers.questions, difficulty, by_prompt, resamples, seed)
    figures = {
        name: sheet.figures(np.concatenate([np.empty(0), *given]))
        for name, given in answers.values.items()
    }
    reports = []
    for name, replicates_by_name in figures.items():
        leads = {}
        if name != judged and judged in figures:
            best = figures[judged]
            leads = {
                key: Interval.of(sign * (best[key] - replicates_by_name[key]))
                for key, sign in LEADS.items()
            }
        intervals = {key: Interval.of(replicates) for key, replicates in replicates_by_name.items()}
        reports.append(Report(name=name, leads=leads, **intervals))
    return reports


def evaluate(
    estimators: Mapping[str, Estimator],
    questions: Sequence[Question],
    judged: str,
    *,
    difficulty: AnyFloatArray | None = None,
    by_prompt: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Report]:
    """Ask every estimator every question, and compute the reports; see ``judge``."""
    return judge(
        ask_all(estimators, questions),
        judged,
        difficulty=difficulty,
        by_prompt=by_prompt,
        resamples=resamples,
        seed=seed,
    )


class _Sheet:
    """All queries of all questions in one column, prepared once for all estimators."""

    def __init__(
        self,
        questions: Sequence[Question],
        difficulty: AnyFloatArray | None,
        by_prompt: bool,
        resamples: int,
        seed: int,
    ) -> None:
        sizes = [len(question.queries) for question in questions]
        self._contexts = np.repeat(np.arange(len(questions)), sizes)
        self._rewards = _joined([question.rewards for question in questions]).astype(np.float64)
        prompts = _joined([question.queries for question in questions]).astype(np.int64)
        keys = [f"{question.benchmark}\n{question.policy}" for question in questions]
        clusters = prompts if by_prompt else np.repeat(np.asarray(keys, dtype=np.str_), sizes)
        self._rows = Resampling(clusters, resamples=resamples, seed=seed)
        self._prior = rankdata(np.repeat([_mean(q.context_rewards) for q in questions], sizes))
        self._difficulty = None if difficulty is None else rankdata(difficulty[prompts])
        policies = np.repeat(
            np.unique([q.policy for q in questions], return_inverse=True)[1], sizes
        )
        self._pairs = prompt_pairs(prompts, self._rewards)
        left, right = self._pairs
        self._of_one = policies[left] == policies[right]
        self._by_pair = Resampling(prompts[left], resamples=resamples, seed=seed)

    def figures(self, values: FloatArray) -> dict[str, FloatArray]:
        """Return replicates of all figures of a report."""
        residuals = rankdata(values - self._rewards)
        missing = np.full(len(self._rows.mean(values)), np.nan)
        return {
            "auc": self._rows.mean_auc(self._rewards, values, self._contexts),
            "pairwise": self._pairwise(values, np.ones(len(self._of_one))),
            "pairwise_lineage": self._pairwise(values, self._of_one.astype(np.float64)),
            "mse": self._rows.mean((values - self._rewards) ** 2),
            "ece": self._rows.calibration_error(self._rewards, values),
            "with_prior": self._rows.correlation(residuals, self._prior),
            "with_difficulty": missing
            if self._difficulty is None
            else self._rows.correlation(residuals, self._difficulty),
        }

    def _pairwise(self, values: FloatArray, counted: FloatArray) -> FloatArray:
        credit = pair_credit(self._rewards, values, self._pairs)
        with np.errstate(invalid="ignore", divide="ignore"):
            share: FloatArray = self._by_pair.total(credit * counted) / self._by_pair.total(counted)
        return share


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate([np.empty(0), *arrays])


def _mean(rewards: AnyFloatArray) -> float:
    return float(rewards.mean()) if len(rewards) else 0.5


def _document(interval: Interval) -> dict[str, float | None]:
    return {
        name: round(value, 6) if np.isfinite(value) else None
        for name, value in vars(interval).items()
    }
