"""Trainings evaluated on unseen prompts, with bootstrap intervals over prompts.

The same prompt is asked of many checkpoints, and their answers are not independent: what is
resampled is the prompt, with everything that was asked about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from research.tables.study import Training
from vzero_server.types import AnyFloatArray, FloatArray
from vzero_train.data.questions import Question
from vzero_train.evaluation.metrics import pair_credit, prompt_pairs
from vzero_train.evaluation.resampling import Interval, Resampling

RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """The mean of a figure over seeds.

    Attributes:
        interval: The mean and its 95 % interval over prompts, seeds held fixed.
        seeds: The figure of each seed.
    """

    interval: Interval
    seeds: tuple[float, ...]

    @classmethod
    def of(cls, replicates: Sequence[FloatArray]) -> "Figure":
        """From replicates ``[1 + resamples]`` of each seed, drawn alike."""
        seeds = tuple(float(of_seed[0]) for of_seed in replicates)
        return cls(Interval.of(np.mean(replicates, axis=0)), seeds)


class Judge:
    """Judges values of the queries of some questions.

    Figures are replicates ``[1 + resamples]``: on the whole sample, then on each resample.
    """

    def __init__(self, questions: Sequence[Question], resamples: int = RESAMPLES) -> None:
        """Draw the resamples.

        Args:
            questions: Questions to evaluate together.
            resamples: Number of resamples.
        """
        prompts = np.concatenate([question.queries for question in questions])
        sizes = [len(question.queries) for question in questions]
        self._contexts = np.repeat(np.arange(len(questions)), sizes)
        self._rewards = np.concatenate([question.rewards for question in questions]).astype(float)
        self._resampling = Resampling(prompts, resamples=resamples)
        self._pairs = prompt_pairs(prompts, self._rewards)
        self._of_pairs = Resampling(prompts[self._pairs[0]], resamples=resamples)

    def intra_auc(self, values: Sequence[FloatArray]) -> FloatArray:
        """Intra-context AUC, mean over contexts weighted by queries (section 5.4)."""
        return self._resampling.mean_auc(self._rewards, np.concatenate(values), self._contexts)

    def pair_accuracy(self, values: Sequence[FloatArray]) -> FloatArray:
        """Pairwise accuracy over the same prompt under two checkpoints (section 5.4)."""
        credit = pair_credit(self._rewards, np.concatenate(values), self._pairs)
        return self._of_pairs.mean(credit)

    def residual_correlation(
        self, values: Sequence[FloatArray], known: Sequence[AnyFloatArray]
    ) -> FloatArray:
        """Spearman correlation of (value - reward) with something known (Eq. 26 and 27)."""
        residuals = rankdata(np.concatenate(values) - self._rewards)
        return self._resampling.correlation(residuals, rankdata(np.concatenate(known)))


def judged(
    questions: Sequence[Question], trainings: Mapping[str, Sequence[Training]], ours: str
) -> dict[str, dict[str, Figure]]:
    """Compute figures of every variant on the test questions, by metric and source.

    Args:
        questions: Questions of the ``values`` of the trainings.
        trainings: One training per seed, by name of the variant.
        ours: Variant with which the others are compared.

    Returns:
        For each variant ``intra_auc/<source>``, ``pair_accuracy/<source>`` and, but for ours,
        ``lead/<source>``: by how much the AUC of ours is higher, paired by prompt and seed.
    """
    figures: dict[str, dict[str, Figure]] = {name: {} for name in trainings}
    for source, places in by_source(questions).items():
        judge = Judge([questions[place] for place in places])
        areas = {}
        for name, several in trainings.items():
            given = [[training.values[place] for place in places] for training in several]
            areas[name] = [judge.intra_auc(one) for one in given]
            figures[name][f"intra_auc/{source}"] = Figure.of(areas[name])
            pairs = [judge.pair_accuracy(one) for one in given]
            figures[name][f"pair_accuracy/{source}"] = Figure.of(pairs)
        for name in trainings:
            if name != ours:
                leads = zip(areas[ours], areas[name], strict=True)
                figures[name][f"lead/{source}"] = Figure.of([one - other for one, other in leads])
    return figures


def by_source(questions: Sequence[Question]) -> Mapping[str, list[int]]:
    """Return the positions of the questions of each source, in order of source names."""
    found: dict[str, list[int]] = {name: [] for name in sorted({q.benchmark for q in questions})}
    for place, question in enumerate(questions):
        found[question.benchmark].append(place)
    return found
