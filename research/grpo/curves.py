"""What the trainings of an experiment say, with intervals over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from research.grpo.runs import Runs
from research.grpo.settings import Settings
from vzero_server.types import FloatArray
from vzero_train.evaluation.resampling import Interval, Resampling

MILESTONES = (0.25, 0.5, 0.75, 0.9)
"""Thresholds of accuracy, as shares of what the fixed arm gains from its start to its end."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Rollouts it took to reach an accuracy.

    Attributes:
        threshold: The accuracy.
        rollouts: Mean over seeds; a seed that never got there counts as the whole budget, so
            that the mean is too small. NaN if none did.
        seeds: How many seeds got there.
        saved: Share of the rollouts of the fixed arm that it took less, paired by seed; None
            for the fixed arm, and where a seed of either arm never got there.
    """

    threshold: float
    rollouts: Interval
    seeds: int
    saved: Interval | None


def spent(settings: Settings) -> FloatArray:
    """Rollouts spent before each evaluation."""
    steps = np.arange(0, settings.steps + 1, settings.every)
    return (steps * settings.total).astype(np.float64)


def accuracies(runs: Runs, arm: str) -> FloatArray:
    """Accuracy of every seed at every evaluation, (seeds, evaluations)."""
    return np.array([record.accuracy for record in runs[arm]])


def over_seeds(figures: Sequence[float] | FloatArray) -> Interval:
    """Mean over seeds, ``[seeds]``, and its interval."""
    return Interval.of(Resampling(np.arange(len(figures))).mean(np.asarray(figures, np.float64)))


def thresholds(runs: Runs) -> list[float]:
    """Accuracies to be reached, rounded to a thousandth."""
    mean = accuracies(runs, "fixed").mean(0)
    return [round(float(mean[0] + share * (mean[-1] - mean[0])), 3) for share in MILESTONES]


def crossing(curve: FloatArray, rollouts: FloatArray, threshold: float) -> float:
    """Rollouts at which a curve first reaches a threshold, between evaluations linear; or NaN."""
    above = np.flatnonzero(curve >= threshold)
    if len(above) == 0:
        return float("nan")
    at = int(above[0])
    if at == 0:
        return float(rollouts[0])
    part = (threshold - curve[at - 1]) / (curve[at] - curve[at - 1])
    return float(rollouts[at - 1] + part * (rollouts[at] - rollouts[at - 1]))


def reached(runs: Runs, arm: str, threshold: float, settings: Settings) -> Reached:
    """Rollouts it took an arm to reach an accuracy."""
    rollouts = spent(settings)
    took, fixed = (
        np.array([crossing(curve, rollouts, threshold) for curve in accuracies(runs, name)])
        for name in (arm, "fixed")
    )
    arrived = np.isfinite(took)
    saved = None
    if arm != "fixed" and arrived.all() and np.isfinite(fixed).all() and (fixed > 0).all():
        saved = over_seeds(1.0 - took / fixed)
    counted = np.where(arrived, took, rollouts[-1]) if arrived.any() else np.full(len(took), np.nan)
    return Reached(threshold, over_seeds(counted), int(arrived.sum()), saved)


def final(runs: Runs, arm: str) -> Interval:
    """Accuracy at the end."""
    return over_seeds(accuracies(runs, arm)[:, -1])


def area(runs: Runs, arm: str) -> FloatArray:
    """Mean accuracy over the training, of every seed."""
    means: FloatArray = accuracies(runs, arm).mean(1)
    return means


def lead(runs: Runs, arm: str, *, at_end: bool) -> Interval:
    """Accuracy less that of the fixed arm, paired by seed: at the end, or over the training."""
    ours, theirs = (
        accuracies(runs, name)[:, -1] if at_end else area(runs, name) for name in (arm, "fixed")
    )
    return over_seeds(ours - theirs)


def per_step(runs: Runs, arm: str, name: str) -> Interval:
    """Mean over steps of a figure that every step has, such as ``silent``."""
    return over_seeds([float(np.mean(getattr(record, name))) for record in runs[arm]])


def error(runs: Runs, arm: str) -> Interval | None:
    """Mean squared error of the success rates an arm believed in; None if it had none."""
    seeds = [[e for e in record.error if e is not None] for record in runs[arm]]
    return over_seeds([float(np.mean(figures)) for figures in seeds]) if all(seeds) else None
