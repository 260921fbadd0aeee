"""How good a router vzero is: accuracy against cost, beside what others would route with."""

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
"""Routers: the judged ones first, the oracle last."""

JUDGED = NAMES[:2]

_ORACLE = NAMES[-1]


def sweeps(
    fleet: Fleet, columns: Columns, checkpoint: Checkpoint, names: Sequence[str]
) -> dict[str, Sweep]:
    """Routers of these names, for a fleet whose prompts the columns describe."""
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
    """Judge routers on one fleet; write ``routing-<label>.md``, ``.json`` and ``.png``.

    Args:
        fleet: Policies and prompts.
        columns: Of the fleet's prompts, in its order.
        checkpoint: The judged head.
        out: Folder to write to; None writes nothing.
        label: Of the pages.
        command: What printed them.
        routers: Of ``NAMES``; the judged ones and the oracle are always there.
        rows: Known prompts of each split, fewer than the fleet has.
        splits: How many.
        seed: Of splits, routers and bootstrap.
        progress: Called with the routers asked and their number.

    Returns:
        Reports, and the document that was written.
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
        "routers": [one.document() for one in reports],
    }
    if out is not None:
        name = pages.stem("routing", label)
        out.mkdir(parents=True, exist_ok=True)
        _draw(fleet, reports, out / f"{name}.png")
        pages.write(out, name, _page(fleet, reports, document, name, command), document)
    return reports, document


def lines(reports: Sequence[Report]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the table."""
    headers = ["router", *FIGURES.values(), *(f"AIQ lead of {name}" for name in JUDGED)]
    rows = [
        [
            one.name,
            *(cell(one.figures[name]) for name in FIGURES),
            *("" if one.name == name else cell(lead, 4) for name, lead in one.leads.items()),
        ]
        for one in reports
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
        f"{', '.join(f'`{one}`' for one in document['fleet']['benchmarks'])}; cost: "
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
    "tokens": "tokens of the answer, for want of sizes of all policies",
    "params_b": "billions of parameters, for want of token counts",
    "unknown": "unknown, so that routing is by reward alone",
}


def _draw(fleet: Fleet, reports: Sequence[Report], path: Path) -> None:
    # Imported late, and without pyplot: no display is looked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(drawing)
    axis = drawing.subplots()
    costs, rewards = fleet.costs.mean(0), fleet.rewards.mean(0)
    axis.scatter(costs, rewards, marker="x", color="black", s=24, label="single policies")
    for one in reports:
        points = np.array(one.curve)
        judged = one.name in JUDGED
        axis.plot(*points.T, label=one.name, linewidth=2.4 if judged else 1.1, zorder=1 + judged)
    if normalised_costs(costs.tolist()).any() and costs.max() > 8.0 * costs.min() > 0.0:
        axis.set_xscale("log")
    axis.set_xlabel(f"mean cost ({fleet.unit})")
    axis.set_ylabel("mean reward")
    axis.legend(fontsize=8)
    drawing.savefig(path, dpi=120)
