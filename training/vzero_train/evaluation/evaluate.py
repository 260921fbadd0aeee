"""Estimators against the same questions, with bootstrap intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vzero_train.data.questions import Question
from vzero_train.evaluation.baselines import Estimator
from vzero_train.evaluation.calibration import ece, residual_correlation
from vzero_train.evaluation.metrics import auc, mse

Floats = npt.NDArray[np.floating]
Metric = Callable[[Floats, Floats], float]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.estimate:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Report:
    """Figures of one estimator over all questions.

    Attributes:
        name: The estimator.
        auc: Intra-context AUC, mean over contexts weighted by queries.
        mse: Mean squared error against the rewards, likewise.
        ece: Expected calibration error of all values together.
        with_prior: Spearman correlation of (value - reward) with the context's mean reward.
        with_difficulty: The same with the prompt's mean reward over all test policies.
        lead_auc: By how much the AUC of the judged estimator exceeds this one, paired.
        lead_mse: By how much its MSE is lower, paired.
    """

    name: str
    auc: Interval
    mse: Interval
    ece: float
    with_prior: float
    with_difficulty: float
    lead_auc: Interval | None = None
    lead_mse: Interval | None = None


def evaluate(
    estimators: Mapping[str, Estimator],
    questions: Sequence[Question],
    judged: str,
    *,
    difficulty: Floats | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Report]:
    """Ask every estimator every question.

    Questions are resampled in clusters of one policy on one benchmark, which share prompts
    and a policy and are not independent.

    Args:
        estimators: By name.
        questions: At one context size.
        judged: Name of the estimator the others are compared with.
        difficulty: Mean reward of every prompt over the test policies, ``[prompts]``.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    values = {
        name: [np.asarray(estimator(question)) for question in questions]
        for name, estimator in estimators.items()
    }
    sizes = np.array([len(question.queries) for question in questions], dtype=np.float64)
    draws = _bootstrap(questions, resamples, np.random.default_rng(seed))
    aucs = {name: _per_question(auc, questions, given) for name, given in values.items()}
    errors = {name: _per_question(mse, questions, given) for name, given in values.items()}
    reports = []
    for name, given in values.items():
        other = name != judged
        reports.append(
            Report(
                name=name,
                auc=_interval(aucs[name], sizes, draws),
                mse=_interval(errors[name], sizes, draws),
                ece=ece(np.concatenate([q.rewards for q in questions]), np.concatenate(given)),
                with_prior=_against_prior(questions, given),
                with_difficulty=_against_difficulty(questions, given, difficulty),
                lead_auc=_interval(aucs[judged] - aucs[name], sizes, draws) if other else None,
                lead_mse=_interval(errors[name] - errors[judged], sizes, draws) if other else None,
            )
        )
    return reports


def as_table(reports: Sequence[Report]) -> str:
    """A Markdown table of reports."""
    lines = [
        "| estimator | AUC | MSE | ECE | rho(prior) | rho(difficulty) | AUC lead | MSE lead |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for report in reports:
        lines.append(
            f"| {report.name} | {report.auc} | {report.mse} | {report.ece:.3f} "
            f"| {report.with_prior:+.3f} | {report.with_difficulty:+.3f} "
            f"| {report.lead_auc or ''} | {report.lead_mse or ''} |"
        )
    return "\n".join(lines)


def _per_question(
    metric: Metric, questions: Sequence[Question], given: Sequence[Floats]
) -> npt.NDArray[np.float64]:
    pairs = zip(questions, given, strict=True)
    return np.array([metric(question.rewards, values) for question, values in pairs])


def _bootstrap(
    questions: Sequence[Question], resamples: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How often each question is drawn, ``[resamples, questions]``."""
    keys = [f"{question.benchmark}\n{question.policy}" for question in questions]
    names, cluster = np.unique(keys, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1.0 / len(names)), size=resamples)
    counts: npt.NDArray[np.int64] = drawn[:, cluster]
    return counts


def _interval(
    values: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.float64],
    draws: npt.NDArray[np.int64],
) -> Interval:
    weights = draws * sizes
    means = (weights @ values) / weights.sum(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(np.average(values, weights=sizes)), float(low), float(high))


def _against_prior(questions: Sequence[Question], given: Sequence[Floats]) -> float:
    pairs = list(zip(questions, given, strict=True))
    residuals = np.concatenate([values - question.rewards for question, values in pairs])
    priors = np.concatenate(
        [np.full(len(values), _mean(question.context_rewards)) for question, values in pairs]
    )
    return residual_correlation(residuals, priors)


def _against_difficulty(
    questions: Sequence[Question], given: Sequence[Floats], difficulty: Floats | None
) -> float:
    if difficulty is None:
        return float("nan")
    pairs = list(zip(questions, given, strict=True))
    residuals = np.concatenate([values - question.rewards for question, values in pairs])
    return residual_correlation(
        residuals, np.concatenate([difficulty[question.queries] for question in questions])
    )


def _mean(rewards: Floats) -> float:
    return float(rewards.mean()) if len(rewards) else 0.5
