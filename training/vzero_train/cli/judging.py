"""``vzero eval OUTCOMES``."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vzero.cli import output as printed
from vzero.cli.lines import BadInput
from vzero_train.cli import output
from vzero_train.cli.inputs import Setup, chosen, listed, numbers, progress

if TYPE_CHECKING:
    from vzero_train.data.outcomes import Outcomes


def run(
    path: Path,
    setup: Setup,
    *,
    estimators: Sequence[str] | None,
    sizes: Sequence[str] | None,
    hold_out: Sequence[str] | None,
) -> None:
    """Judge estimators on an outcomes file and print what was found.

    Raises:
        BadInput: An option or a file cannot be used, or the file is too small.
    """
    from vzero_train.data.history import History
    from vzero_train.data.protocols import unseen_benchmarks, visits
    from vzero_train.evaluation.judgement import FEWEST_QUERIES, SIZES, judgements
    from vzero_train.evaluation.lineup import NAMES, Lineup

    started = time.monotonic()
    names = chosen(estimators, NAMES, "--estimators")
    wanted = numbers(sizes, SIZES, "--sizes")
    given = setup.judged(path)
    judged, training = given.outcomes, None
    benchmarks = listed(hold_out)
    if benchmarks:
        known = [str(name) for name in np.unique(judged.benchmark)]
        chosen(hold_out, known, "--hold-out")
        split = unseen_benchmarks(judged, benchmarks)
        judged, training = split.test, split.train
        if not len(training):
            raise BadInput(f"--hold-out: {path} holds no other benchmarks to learn from")
    lineup = Lineup(
        given.columns,
        given.checkpoint.head,
        History(visits(judged)),
        judged,
        training,
        seed=setup.seed,
    )
    found = []
    with progress("contexts judged", setup.quiet) as report:
        for judgement in judgements(
            lineup, names=names, sizes=wanted, seed=setup.seed, progress=report
        ):
            found.append(judgement)
            if not setup.quiet:
                output.show(judgement)
    if not found:
        least = min(wanted)
        raise BadInput(
            f"{path}: no policy has the {least + FEWEST_QUERIES} outcomes of one benchmark and "
            f"step, successes and failures, that a context of {least} and its queries need"
        )
    if setup.quiet:
        printed.document(
            {
                "outcomes": {"file": str(path), **_described(judged)},
                "head": {
                    "file": str(setup.checkpoint or "shipped"),
                    "fingerprint": given.checkpoint.fingerprint,
                },
                "held_out": benchmarks,
                "seed": setup.seed,
                "seconds": round(time.monotonic() - started, 1),
                "sizes": [judgement.document() for judgement in found],
            }
        )
        return
    missing = [str(size) for size in wanted if size not in {one.size for one in found}]
    if missing:
        printed.line(f"No policy has outcomes enough for N = {', '.join(missing)}.")
    noise = judged.noise()
    if np.isfinite(noise):
        printed.line(f"Of every MSE, about {noise:.3f} is the noise of the rollouts themselves.")


def _described(outcomes: "Outcomes") -> dict[str, Any]:
    noise = outcomes.noise()
    return {
        "rows": len(outcomes),
        "policies": len(np.unique(outcomes.policy)),
        "prompts": len(np.unique(outcomes.prompt)),
        "benchmarks": len(np.unique(outcomes.benchmark)),
        "mean_reward": round(float(outcomes.reward.mean()), 6),
        "noise_mse": round(noise, 6) if np.isfinite(noise) else None,
    }
