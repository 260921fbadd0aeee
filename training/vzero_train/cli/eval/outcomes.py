"""``vzero eval outcomes``: estimators compared on an outcomes file."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from vzero.cli import output as printed
from vzero.cli.errors import BadInput
from vzero_train.cli import output
from vzero_train.cli.inputs import chosen, listed, numbers
from vzero_train.cli.options import (
    DEFAULT_BACKBONE,
    DEFAULT_DEVICE,
    AsJson,
    Backbone,
    Cache,
    Checkpoint,
    Device,
    Estimators,
    Seed,
    Sizes,
)
from vzero_train.cli.progress import progress
from vzero_train.cli.setup import Setup

if TYPE_CHECKING:
    from vzero_train.data.outcomes import Outcomes


def outcomes(
    file: Annotated[Path, typer.Argument(help="Outcomes (Parquet).", show_default=False)],
    estimators: Estimators = None,
    sizes: Sizes = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            help="Evaluate on these benchmarks only; prompt-difficulty learns from the others.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    backbone: Backbone = DEFAULT_BACKBONE,
    device: Device = DEFAULT_DEVICE,
    cache: Cache = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Compare the in-context head with baselines on an outcomes file.

    The file has the columns prompt, policy and reward, and optionally benchmark, source, step and
    n_rollouts.
    """
    from vzero_train.data.earlier_steps import EarlierSteps
    from vzero_train.data.splits import unseen_benchmarks
    from vzero_train.data.visits import visits
    from vzero_train.evaluation.judgement import FEWEST_QUERIES, SIZES, judgements
    from vzero_train.evaluation.lineup import NAMES, Lineup

    setup = Setup(backbone, device, checkpoint, cache, seed, quiet=as_json)
    started = time.monotonic()
    names = chosen(estimators, NAMES, "--estimators")
    wanted = numbers(sizes, SIZES, "--sizes")
    loaded = setup.load(file)
    judged, training = loaded.outcomes, None
    benchmarks = listed(hold_out)
    if benchmarks:
        names_in_file = [str(name) for name in np.unique(judged.benchmark)]
        chosen(hold_out, names_in_file, "--hold-out")
        split = unseen_benchmarks(judged, benchmarks)
        judged, training = split.test, split.train
        if not len(training):
            raise BadInput(f"--hold-out: {file} holds no other benchmarks to learn from")
    lineup = Lineup(
        loaded.columns,
        loaded.checkpoint.head,
        EarlierSteps(visits(judged)),
        judged,
        training,
        seed=setup.seed,
    )
    results = []
    with progress("contexts judged", setup.quiet) as report:
        for judgement in judgements(
            lineup, names=names, sizes=wanted, seed=setup.seed, progress=report
        ):
            results.append(judgement)
            if not setup.quiet:
                output.show(judgement)
    if not results:
        least = min(wanted)
        raise BadInput(
            f"{file}: no policy has the {least + FEWEST_QUERIES} outcomes of one benchmark and "
            f"step, successes and failures, that a context of {least} and its queries need"
        )
    if setup.quiet:
        printed.document(
            {
                "outcomes": {"file": str(file), **_described(judged)},
                "head": {
                    "file": str(setup.checkpoint or "shipped"),
                    "fingerprint": loaded.checkpoint.fingerprint,
                },
                "held_out": benchmarks,
                "seed": setup.seed,
                "seconds": round(time.monotonic() - started, 1),
                "sizes": [judgement.document() for judgement in results],
            }
        )
        return
    missing = [str(size) for size in wanted if size not in {result.size for result in results}]
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
