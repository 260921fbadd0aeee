"""The experiment: ``python -m research.grpo --seeds 5 --out research/results``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from research.grpo.report import write_report
from research.grpo.runs import run_all
from research.grpo.settings import ARMS, QUICK, Settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m research.grpo",
        description="Train a tiny policy by GRPO under several ways to divide equal budgets of "
        "rollouts, and compare them. Starts a vzero server of its own.",
    )
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each arm (default 5)")
    parser.add_argument(
        "--arms", nargs="+", choices=ARMS, default=ARMS, help="arms to train (default all)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for grpo.md, .json, .png")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("build/grpo_budget"),
        help="folder that keeps finished trainings, so that the experiment can be resumed",
    )
    parser.add_argument("--quick", action="store_true", help="a minute, to see that all runs")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    if "fixed" not in options.arms:
        parser.error("--arms must name fixed, which the others are compared with")
    settings = QUICK if options.quick else Settings()
    console = Console()
    with console.status("") as status:

        def show(arm: str, seed: int, step: int) -> None:
            status.update(f"{arm}, seed {seed}: step {step} of {settings.steps}")
            if step == settings.steps:
                console.print(f"{arm}, seed {seed}: done")

        runs = run_all(options.arms, options.seeds, settings, options.cache, show)
    command = f"python -m research.grpo --seeds {options.seeds}"
    page = write_report(runs, settings, options.out, command + " --quick" * options.quick)
    console.print(Markdown(page))


if __name__ == "__main__":
    main()
