"""Table 6: what is tuned."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vzero_server.model.backbone import Backbone
from vzero_train.data.outcomes import Outcomes
from vzero_train.experiments import report
from vzero_train.experiments.judging import judged
from vzero_train.experiments.study import Progress, Study
from vzero_train.training.connector_config import load_connector_config

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "pooled": {"connector": "pooled"},
    "pooled, head tuned": {"connector": "pooled", "tune_head": True},
    "residual-dynamic-query": {},
    "residual-dynamic-query, head tuned": {"tune_head": True},
}
"""What differs from the recipe."""

PAPER = {
    "pooled": ("w/o connector", "freeze", ".621", ".779"),
    "pooled, head tuned": ("w/o connector", "tune", ".648", ".813"),
    "residual-dynamic-query": ("tune connector", "freeze", ".705", ".839"),
    "residual-dynamic-query, head tuned": ("tune connector", "tune", ".594", ".822"),
}
"""The paper's row: configuration, head, Intra AUC, Pair. Acc."""

OURS = "residual-dynamic-query"
"""What others are compared with."""


def run(
    outcomes: Outcomes,
    backbone: Backbone,
    out: Path,
    *,
    steps: int = 400,
    seed: int = 0,
    progress: Progress | None = None,
    cache: Path | None = None,
    label: str = "",
) -> dict[str, Any]:
    """Train with and without connector, head frozen and tuned; write ``table6.md``, ``.json``.

    Arguments and return value are those of ``table4.run``.
    """
    config = replace(load_connector_config(), steps=steps, seed=seed)
    study = Study(outcomes, backbone, config, cache=cache, progress=progress)
    trainings = study.trained(VARIANTS)
    figures = judged(study.sequences.test, trainings, OURS)
    columns = [
        "configuration",
        "head",
        *report.figures_columns(study),
        "overfit point",
        "validation AUC, peak and end",
        "paper: AUC, Pair. Acc.",
    ]
    rows = [
        [
            *PAPER[name][:2],
            *report.figures_row(study, figures[name]),
            report.overfit_point(trainings[name]),
            report.course(trainings[name]),
            ", ".join(PAPER[name][2:]),
        ]
        for name in VARIANTS
    ]
    text = (
        "# Table 6: what is tuned\n\n"
        f"{report.markdown(columns, rows)}\n\n"
        f"{report.protocol(study, trainings)}\n\n"
        "Without connector the head reads the pooled state; frozen, nothing is trained after its "
        "pre-training. A tuned head starts from the same pre-training. All weights are those of "
        "the best validation check, which spares a tuned head what it loses later: "
        f"[Figure 6]({report.stem('figure6', label)}.md) shows the whole course."
    )
    cells = {name: report.figures_json(found) for name, found in figures.items()}
    result = report.as_json(study, trainings, cells)
    report.write(out, report.stem("table6", label), text, result)
    return result
