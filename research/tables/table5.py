"""Table 5: which objective."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from research.connectors.config import load_connector_config
from research.connectors.objectives import Objective
from research.tables import study_report
from research.tables.judging import judged
from research.tables.study import Progress, Study
from vzero_server.model.backbone import Backbone
from vzero_train.data.outcomes import Outcomes
from vzero_train.reports import pages

PAPER = {
    Objective.SOFT_ENTROPY: ("Only Soft CE", ".686", ".783"),
    Objective.RANK: ("Pairwise (Intra)", ".578", ".611"),
    Objective.RANK_ACROSS: ("Pairwise (Intra + Inter)", ".621", ".848"),
    Objective.COMPOSITE: ("Pairwise (Intra) + Soft CE", ".705", ".839"),
}
"""The paper's row: name, Intra AUC, Pair. Acc."""

OURS = Objective.COMPOSITE.value
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
    """Train the adapter by every objective; write ``table5.md`` and ``table5.json``.

    Arguments and return value are those of ``table4.run``.
    """
    config = replace(load_connector_config(), steps=steps, seed=seed)
    study = Study(outcomes, backbone, config, cache=cache, progress=progress)
    trainings = study.trained({str(name): {"objective": name} for name in Objective})
    figures = judged(study.sequences.test, trainings, OURS)
    columns = [
        "loss",
        *study_report.figures_columns(study),
        "overfit point",
        "validation AUC, peak and end",
        "paper: AUC, Pair. Acc.",
    ]
    rows = [
        [
            PAPER[objective][0],
            *study_report.figures_row(study, figures[str(objective)]),
            study_report.overfit_point(trainings[str(objective)]),
            study_report.course(trainings[str(objective)]),
            ", ".join(PAPER[objective][1:]),
        ]
        for objective in Objective
    ]
    text = (
        "# Table 5: objectives\n\n"
        f"{pages.markdown(columns, rows)}\n\n"
        f"{study_report.protocol(study, trainings)}\n\n"
        "The connector is the Residual Query Adapter and the head is frozen. All objectives start "
        "from the same head, which was pre-trained by the composite one. Pairs across contexts "
        "are pairs of two checkpoints of one source.\n\n"
        "This head adds the logit of the context's mean to every value by construction, and its "
        "Gaussian processes regress on what is left. The context shortcut that ranking is to "
        "suppress (Theorem 4.1), and the calibration that cross-entropy is to supply, are both "
        "settled in part before any training: objectives have less to decide here than before "
        "TabPFN."
    )
    cells = {name: study_report.figures_json(found) for name, found in figures.items()}
    result = study_report.as_json(study, trainings, cells)
    pages.write(out, pages.stem("table5", label), text, result)
    return result
