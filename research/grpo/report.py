"""The results as a page, as numbers, and as a drawing."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from research.grpo import curves
from research.grpo.curves import Reached
from research.grpo.runs import Runs
from research.grpo.settings import Settings
from vzero_train.evaluation.resampling import Interval
from vzero_train.reports.pages import markdown, write

NAMES = {
    "fixed": "fixed G",
    "lagged": "Eq. 10 on the last epoch's success rates",
    "paper": "vzero, objective `paper`",
    "expected": "vzero, objective `expected`",
    "nonzero_gradient": "vzero, objective `nonzero_gradient`",
    "oracle_paper": "`paper` on the true success rates",
    "oracle_nonzero_gradient": "`nonzero_gradient` on the true success rates",
}
"""What the arms are called on the page."""


def write_report(runs: Runs, settings: Settings, out: Path, command: str) -> str:
    """Write ``grpo.md``, ``grpo.json`` and ``grpo.png`` to a folder; returns the page."""
    goals = curves.thresholds(runs)
    milestones = {
        arm: [curves.reached(runs, arm, goal, settings) for goal in goals] for arm in runs
    }
    page = "\n\n".join(
        (
            "# GRPO with budgets",
            "![Learning curves](grpo.png)",
            _protocol(runs, settings),
            "## Accuracy",
            _accuracy(runs),
            "## Rollouts to reach an accuracy",
            _rollouts(milestones, settings),
            "## What the divisions were like",
            _divisions(runs),
            _how(command, runs),
        )
    )
    write(out, "grpo", page, _numbers(runs, settings, milestones))
    _draw(runs, settings, out / "grpo.png")
    return page


def _protocol(runs: Runs, settings: Settings) -> str:
    seeds = len(runs["fixed"])
    practised = 50 * settings.practised_per_cell
    return (
        f"The same tiny language model (width {settings.shape.width}, {settings.shape.layers} "
        "layers), warm-started once, is trained by GRPO on text tasks with verifiable answers "
        "(those of the policy zoo), under "
        f"{len(runs)} ways to divide the same number of rollouts: {settings.steps} steps of "
        f"{settings.prompts} prompts and {settings.total} rollouts, {settings.minimum} to "
        f"{settings.maximum} for each prompt. {practised:,} training prompts are visited epoch by "
        f"epoch ({practised // settings.prompts} steps each). Accuracy is the mean success rate on "
        f"{50 * settings.judged_per_cell} held-out prompts; it is computed exactly, from the "
        "probability of the only right answer. "
        f"{seeds} seeds choose the order of the prompts and the rollouts; brackets are 95 % "
        "bootstrap intervals over seeds, differences are paired by seed."
    )


def _accuracy(runs: Runs) -> str:
    rows = [
        [
            NAMES[arm],
            _show(curves.final(runs, arm)),
            _show(curves.lead(runs, arm, at_end=True), sign=True) if arm != "fixed" else "",
            _show(curves.over_seeds(curves.area(runs, arm))),
            _show(curves.lead(runs, arm, at_end=False), sign=True) if arm != "fixed" else "",
        ]
        for arm in runs
    ]
    start = curves.accuracies(runs, "fixed")[:, 0].mean()
    columns = ["rollouts divided by", "at the end", "less fixed G", "mean over training"]
    return f"Before training: {start:.3f}.\n\n" + markdown([*columns, "less fixed G"], rows)


def _rollouts(milestones: dict[str, list[Reached]], settings: Settings) -> str:
    goals = [reached.threshold for reached in milestones["fixed"]]
    seeds = max(reached.seeds for several in milestones.values() for reached in several)
    rows = []
    for arm, several in milestones.items():
        cells = []
        for reached in several:
            if not reached.seeds:
                cells.append("never")
                continue
            cell = _show(reached.rollouts, digits=0)
            if reached.seeds < seeds:
                cell = f"> {cell}, {reached.seeds} of {seeds} seeds"
            if reached.saved:
                cell += f"; saves {_show(reached.saved, percent=True)}"
            cells.append(cell)
        rows.append([NAMES[arm], *cells])
    shares = ", ".join(f"{share:.0%}" for share in curves.MILESTONES)
    return (
        f"The accuracies are what fixed G has after {shares} of all that it gains. A seed that "
        f"never got there counts as {settings.steps * settings.total:,} rollouts.\n\n"
        + markdown(["rollouts divided by", *(f"{goal:.3f}" for goal in goals)], rows)
    )


def _divisions(runs: Runs) -> str:
    rows = []
    for arm in runs:
        error = curves.error(runs, arm)
        rows.append(
            [
                NAMES[arm],
                _show(error, digits=4) if error and not arm.startswith("oracle") else "",
                _show(curves.per_step(runs, arm, "worth")),
                _show(curves.per_step(runs, arm, "silent")),
                _show(curves.per_step(runs, arm, "most"), digits=1),
                _show(curves.per_step(runs, arm, "practised")),
            ]
        )
    return (
        "Means over steps: the squared error of the success rates that an arm believed in; what "
        "its division is worth by Eq. 10 at the true success rates, as a share of the optimum; the "
        "share of rollouts in groups that are all right or all wrong; the largest group; the "
        "success rate on the step's own prompts before it.\n\n"
        + markdown(
            ["rollouts divided by", "error", "worth", "silent", "largest group", "practised"], rows
        )
    )


def _how(command: str, runs: Runs) -> str:
    seconds = sum(record.seconds for records in runs.values() for record in records)
    return (
        f"`{command}`, {seconds:,.0f} s of wall time for all trainings, one after the other "
        f"({platform.machine()}, {os.cpu_count()} cores that others used too)."
    )


def _show(interval: Interval, *, digits: int = 3, sign: bool = False, percent: bool = False) -> str:
    form = "{:+.0%}" if percent else "{:" + ("+" if sign else "") + f",.{digits}f" + "}"
    middle, low, high = (
        form.format(value) for value in (interval.estimate, interval.low, interval.high)
    )
    return f"{middle} [{low}, {high}]"


def _numbers(
    runs: Runs, settings: Settings, milestones: dict[str, list[Reached]]
) -> dict[str, Any]:
    return {
        "settings": asdict(settings),
        "rollouts": curves.spent(settings).tolist(),
        "arms": {
            arm: {
                "final": asdict(curves.final(runs, arm)),
                "lead_at_end": asdict(curves.lead(runs, arm, at_end=True)),
                "lead_over_training": asdict(curves.lead(runs, arm, at_end=False)),
                "reached": [_plain(asdict(reached)) for reached in milestones[arm]],
                "runs": [_rounded(asdict(record)) for record in runs[arm]],
            }
            for arm in runs
        },
    }


def _plain(reached: dict[str, Any]) -> dict[str, Any]:
    """Without NaN, which is not JSON."""
    return {**reached, "rollouts": reached["rollouts"] if reached["seeds"] else None}


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    def short(value: Any) -> Any:  # noqa: ANN401
        return round(value, 4) if isinstance(value, float) else value

    return {
        name: [short(v) for v in value] if isinstance(value, list) else short(value)
        for name, value in record.items()
    }


def _draw(runs: Runs, settings: Settings, path: Path) -> None:
    # Imported late, and without pyplot: no display is looked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(drawing)
    left, right = drawing.subplots(1, 2)
    rollouts = curves.spent(settings)
    for arm in runs:
        style = "--" if arm.startswith("oracle") else "-"
        _band(left, rollouts, curves.accuracies(runs, arm), NAMES[arm], style)
        silent = np.array([record.silent for record in runs[arm]])
        steps = np.arange(1, settings.steps + 1) * settings.total
        right.plot(steps, _smooth(silent.mean(0)), style, label=NAMES[arm])
    left.set_ylabel("accuracy on held-out prompts")
    left.legend(fontsize=7)
    right.set_ylabel("share of rollouts in silent groups")
    for axis in (left, right):
        axis.set_xlabel("rollouts")
    drawing.savefig(path, dpi=110)


def _band(axis: Any, x: Any, seeds: Any, label: str, style: str) -> None:  # noqa: ANN401
    intervals: Sequence[Interval] = [curves.over_seeds(column) for column in seeds.T]
    (line,) = axis.plot(x, [interval.estimate for interval in intervals], style, label=label)
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    axis.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def _smooth(values: Any, width: int = 9) -> Any:  # noqa: ANN401
    """Mean over the last few steps."""
    sums = np.cumsum(np.insert(values, 0, 0.0))
    at = np.arange(1, len(values) + 1)
    start = np.maximum(at - width, 0)
    return (sums[at] - sums[start]) / (at - start)
