"""Build the dataset: ``python -m research.policy_zoo.build --out datasets/policy_zoo.parquet``."""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from queue import Empty, Queue
from typing import cast

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from research.policy_zoo.evaluation import PER_CELL, evaluation_tasks
from research.policy_zoo.policies import QUICK_RECIPES, RECIPES, Recipe
from research.policy_zoo.table import make_table, write_table
from research.policy_zoo.training import Checkpoint, train

Report = Callable[[str, int, float | None], None]
"""Called with a policy's name, its optimization steps so far, and a checkpoint's mean reward."""

News = tuple[str, int, float | None]


def make_policy(recipe: Recipe, seed: int, per_cell: int, report: Report) -> list[Checkpoint]:
    """Train and measure one policy on one thread, so that its numbers can be reproduced."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done = count
        report(recipe.name, done, None)

    try:
        checkpoints = []
        for checkpoint in train(recipe, seed, evaluation_tasks(per_cell), step):
            checkpoints.append(checkpoint)
            report(recipe.name, done, float(checkpoint.rewards.mean()))
        return checkpoints
    finally:
        torch.set_num_threads(threads)


def _work(recipe: Recipe, seed: int, per_cell: int, news: "Queue[News]") -> list[Checkpoint]:
    """Body of a worker process: its progress goes to a queue."""
    return make_policy(recipe, seed, per_cell, lambda *item: news.put(item))


def make_policies(
    recipes: Sequence[Recipe], seed: int, per_cell: int, workers: int, report: Report
) -> list[list[Checkpoint]]:
    """Train all policies, ``workers`` (>= 1) at a time; the result does not depend on workers."""
    if workers == 1:
        return [make_policy(recipe, seed, per_cell, report) for recipe in recipes]
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(workers, mp_context=context) as pool:
        news = cast("Queue[News]", manager.Queue())
        futures: list[Future[list[Checkpoint]]] = [
            pool.submit(_work, recipe, seed, per_cell, news) for recipe in recipes
        ]
        while not (all(future.done() for future in futures) and news.empty()):
            try:
                report(*news.get(timeout=0.5))
            except Empty:
                continue
        return [future.result() for future in futures]


def build(recipes: Sequence[Recipe], seed: int, per_cell: int, workers: int, out: Path) -> None:
    """Train the policies, show their progress, and write the dataset to ``out``."""
    console = Console()
    started = time.monotonic()
    with Progress(
        TextColumn("{task.description:24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("mean reward {task.fields[rewards]}"),
        TimeElapsedColumn(),
        console=console,
    ) as progress:
        bars = {
            recipe.name: progress.add_task(
                recipe.name, total=recipe.warm_steps + recipe.steps, rewards="", start=False
            )
            for recipe in recipes
        }
        rewards: dict[str, list[str]] = {recipe.name: [] for recipe in recipes}

        def report(name: str, done: int, reward: float | None) -> None:
            if done == 1:
                progress.start_task(bars[name])
            if reward is not None:
                rewards[name].append(f"{reward:.2f}")
                if not console.is_terminal:
                    console.print(f"{name}: mean reward {' '.join(rewards[name])}")
            progress.update(bars[name], completed=done, rewards=" ".join(rewards[name]))

        results = make_policies(recipes, seed, per_cell, workers, report)
    table = make_table(evaluation_tasks(per_cell), list(zip(recipes, results, strict=True)))
    write_table(table, out)
    minutes, size = (time.monotonic() - started) / 60, out.stat().st_size / 1e6
    console.print(f"{len(table):,} rows, {size:.2f} MB, {minutes:.1f} minutes: {out}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the policy zoo and record its success.")
    parser.add_argument("--out", type=Path, required=True, help="parquet file to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the whole build")
    parser.add_argument("--workers", type=int, default=2, help="policies trained at a time")
    parser.add_argument("--quick", action="store_true", help="tiny run of about a minute")
    options = parser.parse_args(arguments)
    recipes, per_cell = (QUICK_RECIPES, 2) if options.quick else (RECIPES, PER_CELL)
    build(recipes, options.seed, per_cell, options.workers, options.out)


if __name__ == "__main__":
    main()
