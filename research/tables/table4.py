"""Table 4: which connector."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from research.connectors.config import load_connector_config
from research.connectors.modules import CONNECTORS
from research.tables import study_report
from research.tables.judging import judged
from research.tables.study import Progress, Study
from vzero_server.model.backbone import Backbone
from vzero_train.data.outcomes import Outcomes
from vzero_train.reports import pages

PAPER = {
    "pooled": ("Only last_token", ".621", ".779", "Fast", "-"),
    "mlp": ("MLP", ".618", ".835", "Heavy", "4"),
    "cascaded": ("Cascaded", ".585", ".837", "Heavy", "9"),
    "multi-scale": ("MultiScale", ".589", ".861", "Ex. Heavy", "5"),
    "fixed-query": ("Fixed Query", ".674", ".782", "Moderate", "25"),
    "pyramidal-fixed-query": ("Pyramidal Fixed", ".653", ".805", "Heavy", "22"),
    "residual-dynamic-query": ("Residual Dynamic Query", ".705", ".839", "Moderate", "39"),
}
"""The paper's row: name, Intra AUC, Pair. Acc., complexity, overfit point."""

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
    """Train every connector before the frozen head; write ``table4.md`` and ``table4.json``.

    Args:
        outcomes: Policies along their steps.
        backbone: The frozen encoder.
        out: Folder of the results.
        steps: Of every training.
        seed: The first of two.
        progress: Called along the way.
        cache: Folder for token states and finished trainings, which the tables share;
            ``study.CACHE`` by default.
        label: What the outcomes are; it is added to the names of the files.

    Returns:
        What is in the JSON file.
    """
    config = replace(load_connector_config(), steps=steps, seed=seed)
    study = Study(outcomes, backbone, config, cache=cache, progress=progress)
    trainings = study.trained({name: {"connector": name} for name in CONNECTORS})
    figures = judged(study.sequences.test, trainings, OURS)
    costs = {name: study.complexity(name) for name in CONNECTORS}
    columns = [
        "connector",
        *study_report.figures_columns(study),
        "parameters",
        "ms, 64 prompts",
        "overfit point",
        "validation AUC, peak and end",
        "paper: AUC, Pair. Acc., complexity, overfit point",
    ]
    rows = [
        [
            PAPER[name][0],
            *study_report.figures_row(study, figures[name]),
            f"{costs[name][0]:,}",
            f"{costs[name][1]:.1f}",
            study_report.overfit_point(trainings[name]),
            study_report.course(trainings[name]),
            ", ".join(PAPER[name][1:]),
        ]
        for name in CONNECTORS
    ]
    text = (
        "# Table 4: connectors\n\n"
        f"{pages.markdown(columns, rows)}\n\n"
        f"{study_report.protocol(study, trainings)}\n\n"
        "The overfit point is the training step at which the validation AUC peaked, one for each "
        "seed; the last step means that nothing was overfitted yet. Milliseconds are of a forward "
        "pass over 128 tokens each. Where the paper does not say what a connector is, "
        "`research.connectors.modules` says what was chosen. The last column is another "
        "backbone, head and data, there for the order and not for the numbers."
    )
    cells = {
        name: {
            **study_report.figures_json(figures[name]),
            "parameters": costs[name][0],
            "milliseconds": costs[name][1],
        }
        for name in CONNECTORS
    }
    result = study_report.as_json(study, trainings, cells)
    pages.write(out, pages.stem("table4", label), text, result)
    return result
