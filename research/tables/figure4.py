"""Figure 4: a head trained on one distribution, asked about another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from research.tables.trial import CONTEXT, Progress, Trial
from vzero_server.model.backbone import Backbone
from vzero_server.types import BoolArray
from vzero_train.data.outcomes import Outcomes, pools
from vzero_train.data.questions import Question, ask
from vzero_train.data.visits import visits
from vzero_train.evaluation.baselines import Head, Neighbours
from vzero_train.evaluation.evaluate import Report, evaluate
from vzero_train.evaluation.judgement import cell
from vzero_train.reports import pages
from vzero_train.training.recipe import load_recipe, train_head

NAME = "figure4"

TRAINED = "V0 trained on the source"
SHIPPED = "V0 as shipped"
NEAREST = "kNN"


@dataclass(frozen=True)
class Shift:
    """A source to train on and a target that differs from it in one respect.

    Attributes:
        name: What differs.
        sides: Names of source and target.
        source: Rows of the source.
        target: Rows of the target.
    """

    name: str
    sides: tuple[str, str]
    source: BoolArray
    target: BoolArray


def run(
    outcomes: Outcomes,
    backbone: Backbone,
    out: Path,
    *,
    checkpoint: Path | None = None,
    cache: Path | None = None,
    label: str = "",
    seed: int = 0,
    steps: int = 300,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a head per shift and judge it on both sides; write ``figure4.md``, ``.json``, ``.png``.

    Arguments, return value and errors are those of ``table1.run``; ``steps`` are those of each
    training.
    """
    trial = Trial.of(
        outcomes,
        backbone,
        checkpoint=checkpoint,
        cache=cache,
        label=label,
        seed=seed,
        progress=progress,
    )
    # Contexts and all that is trained on come from one half of the prompts, queries from the other.
    asked = np.random.default_rng(seed).random(len(trial.outcomes.texts)) < 0.5
    body, figures, bars = [], [], []
    for shift in shifts(trial.outcomes):
        head = _trained(trial, shift.source & ~asked[trial.outcomes.prompt], shift.name, steps)
        for side, rows in zip(shift.sides, (shift.source, shift.target), strict=True):
            judged = trial.outcomes.where(rows)
            questions = _questions(judged, asked, seed)
            reports = evaluate(
                {
                    TRAINED: head,
                    SHIPPED: Head(trial.checkpoint.head, trial.columns.features),
                    NEAREST: Neighbours(trial.columns.embeddings),
                },
                questions,
                TRAINED,
                by_prompt=True,
                seed=seed,
            )
            reward = float(np.mean(np.concatenate([one.rewards for one in questions])))
            bars.append((shift.name, side, reward, reports))
            body.append(
                [
                    shift.name,
                    side,
                    str(len(questions)),
                    f"{reward:.3f}",
                    *(cell(one.auc) for one in reports),
                    cell(reports[0].mse),
                ]
            )
            figures.append(
                {
                    "shift": shift.name,
                    "side": side,
                    "contexts": len(questions),
                    "mean_reward": round(reward, 6),
                    "methods": [one.document() for one in reports],
                }
            )
    stem = f"{NAME}-{label}" if label else NAME
    out.mkdir(parents=True, exist_ok=True)
    _draw(bars, out / f"{stem}.png")
    headers = [
        "shift",
        "side",
        "contexts",
        "mean reward",
        *(f"AUC of {name}" for name in (TRAINED, SHIPPED, NEAREST)),
        "MSE of V0 trained on the source",
    ]
    text = (
        "# Figure 4: generalisation across shifts\n\n"
        f"![Mean reward and AUC on both sides of each shift]({stem}.png)\n\n"
        f"{pages.markdown(headers, body)}\n\n{_METHOD.format(steps=steps, size=CONTEXT)}"
    )
    return trial.write(out, NAME, text, {"steps": steps, "sides": figures})


def shifts(outcomes: Outcomes) -> list[Shift]:
    """The shifts that outcomes allow: of steps, of policies, of benchmarks, each in halves."""
    found = []
    late = np.zeros(len(outcomes), dtype=bool)
    for policy in np.unique(outcomes.policy):
        of_policy = outcomes.policy == policy
        steps = np.unique(outcomes.step[of_policy])
        late |= of_policy & (outcomes.step >= steps[(len(steps) + 1) // 2])
    found.append(Shift("training stage", ("early steps", "late steps"), ~late, late))
    strong = _better_half(outcomes, outcomes.policy)
    if strong is not None:
        found.append(Shift("policy", ("weaker policies", "stronger policies"), ~strong, strong))
    easy = _better_half(outcomes, outcomes.benchmark)
    if easy is not None:
        found.append(Shift("domain", ("easier benchmarks", "harder benchmarks"), easy, ~easy))
    return found


def _better_half(outcomes: Outcomes, names: npt.NDArray[np.str_]) -> BoolArray | None:
    """Rows of the names with the higher mean reward; None where there is one name."""
    distinct, index = np.unique(names, return_inverse=True)
    if len(distinct) < 2:
        return None
    means = np.bincount(index, weights=outcomes.reward) / np.bincount(index)
    better = np.argsort(means)[len(distinct) // 2 :]
    chosen: BoolArray = np.isin(index, better)
    return chosen


def _trained(trial: Trial, rows: BoolArray, name: str, steps: int) -> Head:
    outcomes = trial.outcomes.where(rows)
    recipe = load_recipe()
    # A context and its queries must fit the largest pool of the source.
    room = max((len(pool) for pool in pools(outcomes)), default=0) - recipe.trainer.queries
    largest = min(recipe.trainer.largest, room)
    trainer = replace(recipe.trainer, steps=steps, seed=trial.seed, largest=largest)
    if largest < trainer.smallest:
        raise ValueError(f"too few outcomes to train on one side of the shift of {name}")
    report_on = trial.reported(f"training, {name}")
    head = train_head(
        replace(recipe, trainer=trainer),
        outcomes,
        trial.columns.features,
        on_step=lambda step, _: report_on(step, steps) if report_on else None,
    )
    return Head(head, trial.columns.features)


def _questions(outcomes: Outcomes, asked: BoolArray, seed: int) -> list[Question]:
    rng = np.random.default_rng([seed, CONTEXT])
    questions = []
    for pool in visits(outcomes):
        judged = asked[pool.prompt]
        context = replace(pool, prompt=pool.prompt[~judged], reward=pool.reward[~judged])
        test = replace(pool, prompt=pool.prompt[judged], reward=pool.reward[judged])
        if len(test):
            questions.append(ask(context, test, CONTEXT, rng))
    return questions


def _draw(bars: Sequence[tuple[str, str, float, Sequence[Report]]], path: Path) -> None:
    # Imported late, and without pyplot: no display is looked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for name, *_ in bars))
    drawing = Figure(figsize=(3.6 * len(names), 3.4), layout="constrained")
    FigureCanvasAgg(drawing)
    for axis, name in zip(drawing.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        bars_of_shift = [bar for bar in bars if bar[0] == name]
        sides = [side for _, side, _, _ in bars_of_shift]
        axis.bar(sides, [reward for *_, reward, _ in bars_of_shift], color="0.8", width=0.5)
        axis.set_ylim(0.0, 1.0)
        axis.set_ylabel("mean reward of the policies")
        axis.set_title(f"shift of {name}", fontsize=10)
        right = axis.twinx()
        for index, style in enumerate(("o-", "s--", "^:")):
            lines = [reports[index].auc for *_, reports in bars_of_shift]
            low = [line.estimate - line.low for line in lines]
            high = [line.high - line.estimate for line in lines]
            estimates = [line.estimate for line in lines]
            title = bars_of_shift[0][3][index].name
            right.errorbar(sides, estimates, yerr=(low, high), fmt=style, capsize=3, label=title)
        right.set_ylim(0.5, 1.0)
        right.set_ylabel("AUC")
    right.legend(fontsize=7, loc="upper right")
    drawing.savefig(path, dpi=120)


_METHOD = """\
Each head is trained for {steps} steps of the shipped recipe (half of its policies synthetic) on
the source side alone, and asked about both sides. Sides are halves: of each policy's steps; of the
policies and of the benchmarks, by mean reward. Queries are one half of the prompts, the same on
both sides where both have them; contexts (N = {size}, of the asked policy and side) and all
training come from the other half. Brackets are 95 % bootstrap intervals over prompts with the
policies as they are."""
