"""The page on routing: accuracy and cost of vzero and of baseline routers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vzero_server.decisions.costs import normalised_costs
from vzero_server.model.checkpoint import Checkpoint
from vzero_train.data.columns import Columns
from vzero_train.data.fleet import Fleet
from vzero_train.evaluation.factorisation import Factorisation
from vzero_train.evaluation.judgement import cell
from vzero_train.evaluation.routers import (
    BestSingle,
    Chance,
    Clusters,
    NearestPrompts,
    Oracle,
    Regressions,
)
from vzero_train.evaluation.routing import (
    FIGURES,
    PAPER_BETAS,
    Report,
    Sweep,
    decomposed,
    judge,
    route,
    splits_of,
)
from vzero_train.evaluation.value_routers import Contexts, InContext, Jointly, Relabelled
from vzero_train.reports import pages

NAMES = (
    "vzero",
    "icl",
    "icl-weighted",
    "icl-paper",
    "best-single",
    "random",
    "knn",
    "clusters",
    "matrix-factorisation",
    "logistic-regression",
    "oracle",
)
"""Names of the routers: the judged ones first, the oracle last."""

JUDGED = NAMES[:2]

_ORACLE = NAMES[-1]


def sweeps(
    fleet: Fleet, columns: Columns, checkpoint: Checkpoint, names: Sequence[str]
) -> dict[str, Sweep]:
    """Return routers of these names for a fleet and the features of its prompts."""
    contexts = Contexts(checkpoint.head, columns.features)
    embeddings = columns.embeddings
    made: dict[str, Callable[[], Sweep]] = {
        "vzero": lambda: decomposed(Jointly(contexts, embeddings)),
        "icl": lambda: decomposed(InContext(contexts)),
        "icl-weighted": lambda: decomposed(Jointly(contexts, embeddings, counts=())),
        "icl-paper": lambda: Sweep(Relabelled(contexts), PAPER_BETAS),
        "best-single": lambda: decomposed(BestSingle()),
        "random": lambda: decomposed(Chance()),
        "knn": lambda: decomposed(NearestPrompts(embeddings)),
        "clusters": lambda: decomposed(Clusters(embeddings)),
        "matrix-factorisation": lambda: decomposed(Factorisation(embeddings)),
        "logistic-regression": lambda: decomposed(Regressions(embeddings)),
        "oracle": lambda: decomposed(Oracle(fleet.rewards)),
    }
    return {name: made[name]() for name in names}


def run(
    fleet: Fleet,
    columns: Columns,
    checkpoint: Checkpoint,
    out: Path | None,
    *,
    label: str,
    command: str,
    routers: Sequence[str] = NAMES,
    rows: int = 512,
    splits: int = 5,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Report], dict[str, Any]]:
    """Evaluate routers on report fleet; write ``routing-<label>.md``, ``.json`` and ``.png``.

    Args:
        fleet: Policies and prompts.
        columns: Features of the prompts, in their order.
        checkpoint: The judged head.
        out: Folder to write to; None writes nothing.
        label: Label of the pages.
        command: Command that the page names.
        routers: Names of ``NAMES``; the judged ones and the oracle are always included.
        rows: Known prompts of each split, fewer than the fleet has.
        splits: Number of splits.
        seed: Seed of splits, routers and bootstrap.
        progress: Called with the number of finished routers and of all.

    Returns:
        Reports, and the content of the JSON file.
    """
    names = [name for name in NAMES if name in {*JUDGED, _ORACLE, *routers}]
    tasks = splits_of(fleet, rows, splits, seed)
    routed = route(fleet, tasks, sweeps(fleet, columns, checkpoint, names), progress)
    reports = judge(fleet, routed, JUDGED, _ORACLE, seed=seed)
    document = {
        "fleet": _described(fleet),
        "rows": rows,
        "asked": len(fleet) - rows,
        "splits": splits,
        "seed": seed,
        "head": {
            "fingerprint": checkpoint.fingerprint,
            "trained_on": list(checkpoint.training.get("data", ())),
        },
        "routers": [report.document() for report in reports],
    }
    if out is not None:
        name = pages.stem("routing", label)
        out.mkdir(parents=True, exist_ok=True)
        _draw(fleet, reports, out / f"{name}.png")
        pages.write(out, name, _page(fleet, reports, document, name, command), document)
    return reports, document


def lines(reports: Sequence[Report]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of the table."""
    headers = ["router", *FIGURES.values(), *(f"AIQ lead of {name}" for name in JUDGED)]
    rows = [
        [
            report.name,
            *(cell(report.figures[name]) for name in FIGURES),
            *("" if report.name == name else cell(lead, 4) for name, lead in report.leads.items()),
        ]
        for report in reports
    ]
    return headers, rows


def _described(fleet: Fleet) -> dict[str, Any]:
    return {
        "prompts": len(fleet),
        "benchmarks": sorted({str(name) for name in fleet.benchmarks}),
        "cost": fleet.unit,
        "policies": [
            {"name": name, "mean_reward": round(reward, 4), "mean_cost": round(cost, 4)}
            for name, reward, cost in zip(
                fleet.policies, fleet.rewards.mean(0).tolist(), fleet.costs.mean(0).tolist(),
                strict=True,
            )
        ],
    }  # fmt: skip


def _page(
    fleet: Fleet, reports: Sequence[Report], document: Mapping[str, Any], name: str, command: str
) -> str:
    trained = ", ".join(document["head"]["trained_on"]) or "unnamed outcomes"
    return (
        f"# Routing: {name.removeprefix('routing-')}\n\n"
        f"![Accuracy against cost]({name}.png)\n\n"
        f"{pages.markdown(*lines(reports))}\n\n"
        f"{len(fleet.policies)} policies, {len(fleet):,} prompts of "
        f"{', '.join(f'`{name}`' for name in document['fleet']['benchmarks'])}; cost: "
        f"{_UNITS[fleet.unit]}. {document['splits']} random splits by prompt: the outcomes of all "
        f"policies on {document['rows']} prompts are known, the other {document['asked']:,} are "
        "routed. Figures are means over splits, brackets 95 % bootstrap intervals over prompts "
        "and splits, drawn alike for all routers; leads are paired. What routers are free to "
        "choose they choose inside the known prompts.\n\n"
        "`vzero` is what `RankModels` serves: the policies of a fleet read jointly. `icl` is the "
        "same without that, each policy valued by itself, and `icl-weighted` has only the weight "
        "of what sets policies apart.\n\n"
        f"The head `{document['head']['fingerprint'][:12]}` was trained on {trained}.\n\n"
        f"`{command}`, seed {document['seed']}."
    )


_UNITS = {
    "params_b x tokens": "tokens times billions of parameters (Eq. 56)",
    "tokens": "tokens of the answer, since not all sizes are known",
    "params_b": "billions of parameters, since token counts are unknown",
    "unknown": "unknown, so routing uses rewards alone",
}


def _draw(fleet: Fleet, reports: Sequence[Report], path: Path) -> None:
    # Imported here, and without pyplot, which would look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(drawing)
    axis = drawing.subplots()
    costs, rewards = fleet.costs.mean(0), fleet.rewards.mean(0)
    axis.scatter(costs, rewards, marker="x", color="black", s=24, label="single policies")
    for report in reports:
        points = np.array(report.curve)
        judged = report.name in JUDGED
        axis.plot(*points.T, label=report.name, linewidth=2.4 if judged else 1.1, zorder=1 + judged)
    if normalised_costs(costs.tolist()).any() and costs.max() > 8.0 * costs.min() > 0.0:
        axis.set_xscale("log")
    axis.set_xlabel(f"mean cost ({fleet.unit})")
    axis.set_ylabel("mean reward")
    axis.legend(fontsize=8)
    drawing.savefig(path, dpi=120)
