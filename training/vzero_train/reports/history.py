"""The page on prompt history: each step of a run is predicted from everything before it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vzero_server.model.checkpoint import Checkpoint
from vzero_server.types import AnyFloatArray, FloatArray
from vzero_server.values.history import DEVIATIONS, SHARED, Dynamics, fit
from vzero_server.values.visits import Visits
from vzero_train.data.outcomes import Outcomes
from vzero_train.evaluation.history import CONTEXT, Turn, turns
from vzero_train.evaluation.judgement import cell
from vzero_train.evaluation.resampling import Interval, Resampling
from vzero_train.progress import StageProgress
from vzero_train.reports.pages import markdown, stem

NAME = "history"

# Shares of the prompts of a step that are kept; those below 1 need a run of some steps.
_SHARES = {"every prompt at every step": 1.0, "a third of the prompts at each step": 1.0 / 3.0}
_STEPS_FOR_A_SHARE = 9
# Decayed counts of the same prompt; the best of these in hindsight is the reference.
_WORTHS, _DECAYS = (0.1, 0.3, 1.0, 3.0), tuple(np.arange(0.1, 1.01, 0.05).round(2).tolist())
# Wide deviations of the prior, for a fit to all outcomes of a policy.
_ANYWHERE = np.array([2.0, 2.0, 3.0, 2.0, 1.0])
_SINGLE = ("estimator", "last visit", "decayed visits, best in hindsight", "mean of the policy")
_OURS = "fusion"


def run(
    outcomes: Outcomes,
    checkpoint: Checkpoint,
    features: AnyFloatArray,
    out: Path | None,
    *,
    label: str = "",
    seed: int = 0,
    progress: StageProgress | None = None,
) -> dict[str, Any]:
    """Evaluate the combination and its parts; write ``history.md`` and ``.json`` to ``out``.

    Args:
        outcomes: Outcomes of policies along their steps; others are ignored.
        checkpoint: The head.
        features: Features of all prompts, ``[prompts, columns]``.
        out: Folder of results; None writes nothing.
        label: Name of the outcomes, if they are not the policy zoo.
        seed: Seed of all draws.
        progress: See ``StageProgress``.

    Returns:
        The content of the JSON file.

    Raises:
        ValueError: No prompt has outcomes at two steps of a policy.
    """
    steps = [
        len(np.unique(outcomes.step[(outcomes.policy == policy) & (outcomes.step >= 0)]))
        for policy in np.unique(outcomes.policy)
    ]
    sequences = []
    for how, share in _SHARES.items():
        if share < 1.0 and max(steps) < _STEPS_FOR_A_SHARE:
            continue
        followed = list(
            turns(
                outcomes,
                checkpoint.head.eval(),
                features,
                share=share,
                seed=seed,
                progress=partial(progress, how) if progress else None,
            )
        )
        if not followed:
            raise ValueError("no prompt comes back at a later step of its policy")
        sequences.append(_sequence(how, followed, seed))
    document = {
        "outcomes": label or "policy_zoo",
        "head": checkpoint.fingerprint,
        "seed": seed,
        "shared": {**asdict(SHARED), "spread": DEVIATIONS.tolist()},
        "sequences": sequences,
    }
    if out is not None:
        page = stem(NAME, label)
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{page}.json").write_text(json.dumps(document, indent=2) + "\n")
        (out / f"{page}.md").write_text(_page(document))
    return document


def lines(sequence: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of the table of one sequence of the document."""
    rows = [
        [name, _figure(error), _share(sequence["gain"].get(name))]
        for name, error in sequence["mse"].items()
    ]
    return ["what answers", "MSE", "below the best single"], rows


def _sequence(how: str, followed: Sequence[Turn], seed: int) -> dict[str, Any]:
    rewards = np.concatenate([turn.rewards for turn in followed])
    rollouts = np.concatenate([turn.rollouts for turn in followed])
    answers = _answers(followed)
    rows = Resampling(np.concatenate([turn.prompts for turn in followed]), seed=seed)
    errors = {name: rows.mean((values - rewards) ** 2) for name, values in answers.items()}
    best = min(_SINGLE, key=lambda name: float(errors[name][0]))
    several = rollouts > 1
    noise = rewards[several] * (1.0 - rewards[several]) / (rollouts[several] - 1)
    return {
        "how": how,
        "policies": len({turn.policy for turn in followed}),
        "steps": len(followed),
        "predictions": len(rewards),
        "prompts": len(np.unique(np.concatenate([turn.prompts for turn in followed]))),
        "noise": float(noise.mean()) if several.any() else None,
        "best_single": best,
        "mse": {name: asdict(Interval.of(replicates)) for name, replicates in errors.items()},
        "gain": {
            name: asdict(Interval.of(1.0 - replicates / errors[best]))
            for name, replicates in errors.items()
            if name not in _SINGLE
        },
        "fits": {
            policy: asdict(_fit_all([turn for turn in followed if turn.policy == policy]))
            for policy in sorted({turn.policy for turn in followed})
        },
    }


def _answers(followed: Sequence[Turn]) -> Mapping[str, FloatArray]:
    def joined(parts: Sequence[FloatArray]) -> FloatArray:
        return np.concatenate(parts)

    rewards = joined([turn.rewards for turn in followed])
    decayed = [
        joined([turn.decayed(worth, decay) for turn in followed])
        for worth in _WORTHS
        for decay in _DECAYS
    ]
    return {
        "estimator": joined([turn.values for turn in followed]),
        "estimator, newest row left out": joined([turn.loo_values for turn in followed]),
        "last visit": joined([turn.last for turn in followed]),
        "decayed visits, best in hindsight": min(
            decayed, key=lambda values: float(np.square(values - rewards).mean())
        ),
        "mean of the policy": joined([np.full(len(turn.prompts), turn.mean) for turn in followed]),
        "fusion without shift": joined([turn.fused(shift=False) for turn in followed]),
        "fusion, newest row left out": joined([turn.fused(loo_values=True) for turn in followed]),
        "fusion, shared fit alone": joined([turn.fused(dynamics=SHARED) for turn in followed]),
        _OURS: joined([turn.fused() for turn in followed]),
    }


def _fit_all(followed: Sequence[Turn]) -> Dynamics:
    """Fit the dynamics to all outcomes of a policy, with a weak prior."""
    starts = np.cumsum([0, *(len(turn.prompts) for turn in followed)])
    parts = [turn.past for turn in followed]
    past = Visits(
        np.concatenate([part.owner + at for part, at in zip(parts, starts[:-1], strict=True)]),
        np.concatenate([part.rewards for part in parts]),
        np.concatenate([part.rollouts for part in parts]),
        np.concatenate([part.ages for part in parts]),
        int(starts[-1]),
    )
    return fit(
        np.concatenate([turn.values for turn in followed]),
        np.concatenate([np.full(len(turn.values), turn.size) for turn in followed]),
        past,
        np.concatenate([turn.rewards for turn in followed]),
        np.concatenate([turn.rollouts for turn in followed]),
        deviations=_ANYWHERE,
    )


def _page(document: Mapping[str, Any]) -> str:
    parts = [f"# Prompt history: {document['outcomes']}\n"]
    for sequence in document["sequences"]:
        noise = sequence["noise"]
        parts.append(
            f"## {sequence['how'].capitalize()}\n\n"
            f"{sequence['policies']} policies, {sequence['steps']} steps, "
            f"{sequence['predictions']:,} predictions of {sequence['prompts']:,} prompts that had "
            "been visited before."
            + (f" Noise of the rollouts: {noise:.4f} of every MSE." if noise is not None else "")
            + f" The best single ingredient is: {sequence['best_single']}.\n"
        )
        parts.append(markdown(*lines(sequence)) + "\n")
        fits = [
            [f"`{policy}`", *(f"{number:.2f}" for number in dynamics.values())]
            for policy, dynamics in sequence["fits"].items()
        ]
        parts.append(
            "Fitted to all visits of a policy (weight, decay, most, drift, slope), from which the "
            "shared fit was chosen:\n\n" + markdown(["policy", *asdict(SHARED)], fits) + "\n"
        )
    shared = ", ".join(f"{name} {number:g}" for name, number in asdict(SHARED).items())
    parts.append(_METHOD.format(rows=CONTEXT, shared=shared))
    return "\n".join(parts)


def _figure(interval: Mapping[str, float]) -> str:
    return str(Interval(**interval))


def _share(interval: Mapping[str, float] | None) -> str:
    return "" if interval is None else cell(Interval(**interval))


_METHOD = """\
Each prompt of a step is predicted from everything before the step; prompts without a past, whose
values history does not change, are excluded. The head reads the newest {rows} outcomes; at each
step the dynamics are fitted to those whose prompt occurred before, as the server does. Decayed
visits are Beta(c/2 + sum r^age s, c/2 + sum r^age f) of the same prompt, age in visits, c and r the
best for these very rewards. The shared fit, where no prompt came back yet: {shared}.
Gains are 1 - MSE / MSE of the best single ingredient; brackets are 95 % bootstrap intervals over
prompts, paired, the policies as they are.
"""
