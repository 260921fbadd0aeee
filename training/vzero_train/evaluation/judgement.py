"""Estimators evaluated at several context sizes, as tables and as JSON."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vzero_train.data.outcomes import Outcomes, pools
from vzero_train.data.questions import Question, draw_questions
from vzero_train.evaluation.evaluate import Answers, Report, ask_all, judge
from vzero_train.evaluation.lineup import JUDGED, NAMES, Lineup
from vzero_train.evaluation.resampling import Interval

SIZES = (32, 64, 128, 256, 512, 1024)
"""Rows of a context, by default."""

FEWEST_QUERIES = 64

COLUMNS = {
    "AUC": "auc",
    "pairwise accuracy": "pairwise",
    "of one policy": "pairwise_lineage",
    "MSE": "mse",
    "ECE": "ece",
    "residual with prior": "with_prior",
    "with difficulty": "with_difficulty",
}
"""Figures of a report by the titles of their columns."""


@dataclass(frozen=True)
class Judgement:
    """Reports at one context size.

    Attributes:
        size: Rows of a context, N.
        contexts: Number of contexts.
        queries: Number of values per estimator.
        reports: One per estimator.
    """

    size: int
    contexts: int
    queries: int
    reports: tuple[Report, ...]

    @classmethod
    def of(cls, size: int, answers: Answers, outcomes: Outcomes, *, seed: int = 0) -> "Judgement":
        """Evaluate answers; the difficulty of prompts is taken from ``outcomes``."""
        reports = judge(answers, JUDGED, difficulty=outcomes.difficulty(), seed=seed)
        queries = sum(len(question.queries) for question in answers.questions)
        return cls(size, len(answers.questions), queries, tuple(reports))

    def document(self) -> dict[str, Any]:
        """Return the reports as JSON values."""
        return {
            "size": self.size,
            "contexts": self.contexts,
            "queries": self.queries,
            "estimators": [report.document() for report in self.reports],
        }


def questions_of(outcomes: Outcomes, size: int, seed: int = 0) -> list[Question]:
    """Return questions of one context size, by benchmark and mixed; none if pools are too small."""
    rng = np.random.default_rng([seed, size])
    large_pools = pools(outcomes, size + FEWEST_QUERIES)
    return draw_questions(large_pools, size, rng, fewest_queries=FEWEST_QUERIES)


def judgements(
    lineup: Lineup,
    *,
    names: Sequence[str] = NAMES,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Judgement]:
    """Evaluate a line-up at every context size for which there are enough outcomes.

    Args:
        lineup: Estimators and outcomes.
        names: Estimators, of ``lineup.NAMES``.
        sizes: Rows of a context.
        seed: Seed of all draws.
        progress: Called with the number of answered questions and of all, size by size.
    """
    estimators = lineup.estimators(names)
    for size in sizes:
        questions = questions_of(lineup.judged, size, seed)
        if questions:
            answers = ask_all(estimators, questions, progress)
            yield Judgement.of(size, answers, lineup.judged, seed=seed)


def rows(reports: Sequence[Report], figures: Sequence[str]) -> list[list[str]]:
    """Return rows of a table: names of estimators, and figures with their intervals."""
    return [
        [report.name, *(cell(getattr(report, figure)) for figure in figures)] for report in reports
    ]


def cell(interval: Interval | None, digits: int = 3) -> str:
    """Format an estimate with its interval; a dash if there is none."""
    if interval is None or not np.isfinite(interval.estimate):
        return "-"
    estimate, low, high = (
        f"{value:.{digits}f}" for value in (interval.estimate, interval.low, interval.high)
    )
    return f"{estimate} [{low}, {high}]" if np.isfinite(interval.low) else estimate
