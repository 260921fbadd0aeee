"""Table 6: what is tuned."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from research.connectors.config import load_connector_config
from research.connectors.tabpfn_head import TabPFNStart
from research.tables import study_report
from research.tables.judging import judged
from research.tables.study import Progress, Study, Training
from vzero_server.model.backbone import Backbone
from vzero_train.data.outcomes import Outcomes
from vzero_train.reports import pages

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "pooled": {"connector": "pooled"},
    "pooled, head tuned": {"connector": "pooled", "tune_head": True},
    "residual-dynamic-query": {},
    "residual-dynamic-query frozen, head tuned": {"tune_connector": False, "tune_head": True},
    "residual-dynamic-query, head tuned": {"tune_head": True},
}
"""What differs from the recipe."""

PAPER = {
    "pooled": ("w/o connector", "freeze", ".621", ".779"),
    "pooled, head tuned": ("w/o connector", "tune", ".648", ".813"),
    "residual-dynamic-query": ("tune connector", "freeze", ".705", ".839"),
    "residual-dynamic-query frozen, head tuned": ("random connector", "tune", "-", "-"),
    "residual-dynamic-query, head tuned": ("tune connector", "tune", ".594", ".822"),
}
"""The paper's row: configuration, head, Intra AUC, Pair. Acc. It has none of a random connector."""

OURS = "residual-dynamic-query"
"""What others are compared with."""

# Before TabPFN a step takes several times as long as before our own head: one pass instead of
# the paper's four, and one seed.
_MEMBERS, _SEEDS = 1, 1

_COLUMNS = (
    "overfit point",
    "validation AUC, peak and end",
    "paper: AUC, Pair. Acc.",
)


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
    tabpfn: Path | None = None,
) -> dict[str, Any]:
    """Train with and without connector, head frozen and tuned; write ``table6.md``, ``.json``.

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
        tabpfn: Weights of a TabPFN; all rows are trained and judged once more before it.

    Returns:
        What is in the JSON file.

    Raises:
        CheckpointError: The weights cannot be used, or not for so many columns.
    """
    start = None if tabpfn is None else TabPFNStart.read(tabpfn, members=_MEMBERS)
    config = replace(load_connector_config(), steps=steps, seed=seed)
    if start is not None:
        # What does not fit is said before anything is encoded or trained.
        for columns in (backbone.hidden, config.queries * config.width):
            start.check(config.rows, columns)
    study = Study(outcomes, backbone, config, cache=cache, progress=progress)
    trainings = study.trained(VARIANTS)
    table, result = _judged(study, trainings)
    parts = ["# Table 6: what is tuned", table]
    before_tabpfn = None
    if start is not None:
        before_tabpfn = study.trained(VARIANTS, seeds=_SEEDS, tabpfn=start)
        table, found = _judged(study, before_tabpfn)
        parts += [_heading(start), table]
        result["tabpfn"] = {
            "sha256": start.digest,
            "members": start.members,
            "rows": found["rows"],
        }
    parts += [
        study_report.protocol(study, trainings, before_tabpfn),
        "Without connector the head reads the pooled state; frozen, nothing is trained after its "
        "pre-training. A tuned head starts from the same pre-training. A random connector stays as "
        "it was made. All weights are those of the best validation check, which spares a tuned "
        f"head what it loses later: [Figure 6]({pages.stem('figure6', label)}.md) shows the whole "
        "course.",
    ]
    pages.write(out, pages.stem("table6", label), "\n\n".join(parts), result)
    return result


def _judged(study: Study, trainings: Mapping[str, list[Training]]) -> tuple[str, dict[str, Any]]:
    """The table of trainings before one head, and what of it stands in the JSON file."""
    figures = judged(study.sequences.test, trainings, OURS)
    columns = ["configuration", "head", *study_report.figures_columns(study), *_COLUMNS]
    rows = [
        [
            *PAPER[name][:2],
            *study_report.figures_row(study, figures[name]),
            study_report.overfit_point(trainings[name]),
            study_report.course(trainings[name]),
            ", ".join(PAPER[name][2:]),
        ]
        for name in VARIANTS
    ]
    cells = {name: study_report.figures_json(found) for name, found in figures.items()}
    return pages.markdown(columns, rows), study_report.as_json(study, trainings, cells)


def _heading(start: TabPFNStart) -> str:
    parameters = sum(parameter.numel() for parameter in start.file.net.parameters())
    return (
        f"## Before TabPFN\n\nThe head is `{start.file.path.name}` ({start.file.architecture}, "
        f"{parameters:,} parameters, SHA-256 `{start.digest[:12]}`), {start.members} pass, "
        f"{_SEEDS} seed; leads are those of the tuned connector before it, frozen."
    )
