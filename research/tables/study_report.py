"""Parts of the pages about connector trainings: protocol, figures, curves."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from research.tables.judging import Figure, by_source
from research.tables.study import Study, Training
from vzero_train.evaluation.judgement import cell

METRICS = {"intra_auc": "Intra AUC", "pair_accuracy": "Pair. Acc.", "lead": "AUC lead of ours"}


def protocol(
    study: Study,
    trainings: Mapping[str, Sequence[Training]],
    tabpfn: Mapping[str, Sequence[Training]] | None = None,
) -> str:
    """A paragraph that says what was trained and judged, on what, and how long it took.

    Args:
        study: What it was trained and judged on.
        trainings: Before an ``InContextHead``.
        tabpfn: Before TabPFN, if there are any.
    """
    config, sequences = study.config, study.sequences
    counted = []
    for source in _sources(study):
        asked = [q for q in sequences.test if q.benchmark == source]
        prompts = {int(prompt) for question in asked for prompt in question.queries}
        counted.append(
            f"`{source}`: {len(asked)} checkpoints, {len(prompts)} test prompts, "
            f"{sum(len(q.queries) for q in asked):,} test outcomes"
        )
    groups = (*trainings.values(), *(tabpfn or {}).values())
    seconds = sum(training.seconds for several in groups for training in several)
    seeds = max(len(several) for several in trainings.values())
    but = ": not TabPFN" if tabpfn is None else ", where no TabPFN is named"
    return (
        "Strict generalisation: the prompts of test queries were in no training step, as context "
        "or as query, of any policy. Contexts of the test come from the context pool of the same "
        f"checkpoint, N = {config.rows}. {'; '.join(counted)}.\n\n"
        f"One training for all sources: {config.steps} steps of {config.contexts} contexts with "
        f"{config.asked} queries, {seeds} seeds, K = {config.queries}, e = {config.width}, "
        f"{config.heads} heads; checked on validation prompts (apart from training and test) every "
        f"{config.check_every} steps, and judged with the weights of the best check. The frozen "
        f"head is `InContextHead`, pre-trained on randomly projected pooled states{but}. "
        "Figures are means over seeds; brackets are 95 % bootstrap intervals over prompts, seeds "
        "held fixed. A lead is the AUC of ours (the Residual Query Adapter, frozen head, composite "
        "objective) less that of the row, paired by prompt and seed.\n\n"
        f"{seconds / 60:.1f} minutes of wall time for all trainings behind this page: one thread "
        f"on a machine of {_machine()}, beside whatever else ran there."
    )


def figures_row(study: Study, figures: Mapping[str, Figure]) -> list[str]:
    """Cells of a row, below the headers of ``figures_columns``; a dash where there is none."""
    found = [figures.get(f"{metric}/{source}") for source in _sources(study) for metric in METRICS]
    return [cell(figure.interval if figure else None) for figure in found]


def figures_columns(study: Study) -> list[str]:
    """Headers of those cells: all metrics of one source, then those of the next."""
    return [f"{title}, `{source}`" for source in _sources(study) for title in METRICS.values()]


def overfit_point(trainings: Sequence[Training]) -> str:
    """The steps at which validation peaked, one for each seed; a dash without training."""
    if all(len(training.curve) == 1 for training in trainings):
        return "-"
    return ", ".join(str(training.best_step) for training in trainings)


def course(trainings: Sequence[Training]) -> str:
    """Validation AUC at its peak and at the end of the training, means over seeds."""
    peak = np.mean([max(area for _, area in training.curve) for training in trainings])
    end = np.mean([training.curve[-1][1] for training in trainings])
    return f"{peak:.3f}, {end:.3f}"


def as_json(
    study: Study, trainings: Mapping[str, Sequence[Training]], rows: Mapping[str, Any]
) -> dict[str, Any]:
    """A result: settings, and for each variant its figures, curves and seconds."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": _machine(),
        "config": asdict(study.config),
        "rows": {
            name: {
                **rows.get(name, {}),
                "overfit_points": [training.best_step for training in several],
                "curves": [training.curve for training in several],
                "seconds": [round(training.seconds, 1) for training in several],
            }
            for name, several in trainings.items()
        },
    }


def figures_json(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Figures as plain numbers."""
    return {
        name: {**asdict(figure.interval), "seeds": figure.seeds} for name, figure in figures.items()
    }


def _sources(study: Study) -> list[str]:
    return list(by_source(study.sequences.test))


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}; torch {torch.__version__}"
