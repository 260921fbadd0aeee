"""Figure 6: what the errors go with, along the training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from research.connectors.config import load_connector_config
from research.tables import study_report
from research.tables.judging import Figure, Judge, by_source
from research.tables.study import Progress, Study, Training
from vzero_server.model.backbone import Backbone
from vzero_server.types import FloatArray
from vzero_train.data.outcomes import Outcomes
from vzero_train.evaluation.judgement import cell
from vzero_train.reports import pages

PANELS: Mapping[str, Mapping[str, object]] = {
    "head tuned": {"tune_head": True},
    "head frozen": {},
}
"""Left and right panel, and what differs from the recipe."""

LINES = {"context": "with the context prior (Eq. 26)", "query": "with the difficulty (Eq. 27)"}
_RESAMPLES = 300

Curve = list[tuple[int, Figure]]


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
    """Follow both residual correlations; write ``figure6.md``, ``.json`` and ``.png``.

    Arguments and return value are those of ``table4.run``.
    """
    config = replace(load_connector_config(), steps=steps, seed=seed)
    study = Study(outcomes, backbone, config, cache=cache, progress=progress)
    trainings = study.trained(PANELS)
    curves = {panel: _curves(study, several) for panel, several in trainings.items()}
    out.mkdir(parents=True, exist_ok=True)
    picture = f"{pages.stem('figure6', label)}.png"
    _draw(curves, out / picture)
    sources = list(by_source(study.sequences.validation))
    columns = ["panel", "source", "correlation", "untrained", "after half", "at the end"]
    rows = []
    for panel, lines in curves.items():
        for source in sources:
            for line, title in LINES.items():
                curve = lines[f"{line}/{source}"]
                chosen = (curve[0], curve[len(curve) // 2], curve[-1])
                rows.append(
                    [panel, f"`{source}`", title, *(cell(figure.interval) for _, figure in chosen)]
                )
    once = ", ".join(f"{_asked_once(study, source):.0%} of `{source}`" for source in sources)
    text = (
        "# Figure 6: residual correlations during training\n\n"
        f"![Both correlations along the training]({picture})\n\n"
        f"{pages.markdown(columns, rows)}\n\n"
        "Spearman correlation of (value - reward) on the validation queries with the mean reward "
        "of the checkpoint's context pool, and with the query's mean reward over all checkpoints "
        "that were asked it. Prompts that were asked of one checkpoint only: "
        f"{once}. Of them the difficulty *is* the reward, and the error of any value that stops "
        "short of the extremes goes against it. The same holds in part wherever few checkpoints "
        "share a prompt, and more so where their policies are much alike: only a value that knew "
        "every prompt's own outcome would stand at zero.\n\n"
        f"{study_report.protocol(study, trainings)} "
        "The curves are those of the weights at each check."
    )
    cells = {
        panel: {
            name: [{"step": step, **asdict(figure.interval)} for step, figure in curve]
            for name, curve in lines.items()
        }
        for panel, lines in curves.items()
    }
    result = study_report.as_json(study, trainings, cells)
    pages.write(out, pages.stem("figure6", label), text, result)
    return result


def _asked_once(study: Study, source: str) -> float:
    questions = [q for q in study.sequences.validation if q.benchmark == source]
    asked = np.concatenate([question.queries for question in questions])
    return float((np.unique(asked, return_counts=True)[1] == 1).mean())


def _curves(study: Study, trainings: Sequence[Training]) -> dict[str, Curve]:
    """Both correlations of every source, at every check that all seeds have."""
    sequences = study.sequences
    curves: dict[str, Curve] = {}
    for source, places in by_source(sequences.validation).items():
        questions = [sequences.validation[place] for place in places]
        judge = Judge(questions, _RESAMPLES)
        known: dict[str, list[FloatArray]] = {
            "context": [
                np.full(len(question.queries), sequences.stages[place].context.reward.mean())
                for place, question in zip(places, questions, strict=True)
            ],
            "query": [sequences.difficulty[question.queries] for question in questions],
        }
        checks = min(len(training.curve) for training in trainings)
        for line, quantity in known.items():
            curves[f"{line}/{source}"] = [
                (
                    trainings[0].curve[check][0],
                    Figure.of(
                        [
                            judge.residual_correlation(
                                [training.watched[check][place] for place in places], quantity
                            )
                            for training in trainings
                        ]
                    ),
                )
                for check in range(checks)
            ]
    return curves


def _draw(curves: Mapping[str, Mapping[str, Curve]], path: Path) -> None:
    # Imported late, and without pyplot: no display is looked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    sources = sorted({name.split("/", 1)[1] for lines in curves.values() for name in lines})
    drawing = Drawing(figsize=(9.0, 3.2 * len(sources)), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(len(sources), len(curves), sharex=True, sharey=True, squeeze=False)
    for row, source in zip(axes, sources, strict=True):
        for axis, (panel, lines) in zip(row, curves.items(), strict=True):
            for line, title in LINES.items():
                points, figures = zip(*lines[f"{line}/{source}"], strict=True)
                low, high = [f.interval.low for f in figures], [f.interval.high for f in figures]
                axis.plot(points, [f.interval.estimate for f in figures], label=title)
                axis.fill_between(points, low, high, alpha=0.2)
            axis.axhline(0.0, color="black", linestyle="--", linewidth=0.8)
            axis.set_title(f"{panel}, {source}", fontsize=10)
        row[0].set_ylabel("Spearman correlation")
    for axis in axes[-1]:
        axis.set_xlabel("training step")
    axes[0][0].legend(fontsize=8)
    drawing.savefig(path, dpi=120)
