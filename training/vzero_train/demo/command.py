"""``vzero demo``: a server learns what policies can do, is killed, and comes back."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vzero import Client
from vzero_server.testing.local_server import LocalServer
from vzero_server.types import FloatArray
from vzero_train.data.zoo import zoo
from vzero_train.evaluation.metrics import (
    auc,
    mse,
)

# Prompts of each checkpoint whose outcomes are streamed, and others that are only asked for.
# The server's window of 2,048 outcomes holds the last four checkpoints.
_STREAMED = 512
_ASKED = 300


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one checkpoint of a policy was observed to do; arrays and lists of n prompts."""

    policy: str
    step: int
    prompt_ids: list[str]
    prompts: list[str]
    rewards: FloatArray
    rollouts: list[int]
    costs: list[float]


@dataclass(frozen=True, slots=True)
class Score:
    """Values of prompts never streamed against what was then observed."""

    policy: str
    step: int
    streamed: int
    asked: int
    mean_reward: float
    icl_auc: float
    knn_auc: float
    icl_mse: float
    knn_mse: float
    context_mean_mse: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a server killed with SIGKILL knew after its restart."""

    acked: int
    found_of_acked: int
    sent_again: int
    stored_twice: int
    largest_change_of_a_value: float
    seconds_to_serving: float


def demo(
    policies: Annotated[int, typer.Option(help="Policies to stream.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Chooses the prompts that are streamed.")] = 0,
    data: Annotated[
        Path | None, typer.Option(help="Outcomes (parquet); by default the policy zoo.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Stream real policies' outcomes to a real server and compare its values with the truth.

    Starts a server on a free loopback port with a temporary data folder; leaves nothing behind.
    """
    console = Console(stderr=as_json)
    checkpoints = load(data or zoo(), policies)
    with tempfile.TemporaryDirectory(prefix="vzero-demo-") as folder:
        # Always up to date with peers, so that nothing may change over a restart.
        server = LocalServer(Path(folder) / "data", peer_refresh=0, dtype="float32")
        with console.status("starting a server ..."):
            server.start()
        console.print(f"server on {server.address}, process {server.pid}, data in {folder}")
        with server:
            scores = learn(server, checkpoints, np.random.default_rng(seed), console)
            if not as_json:
                console.print(score_table(scores))
            recovery = survive(server, checkpoints, console)
    if as_json:
        print(json.dumps({"scores": [asdict(s) for s in scores], "recovery": asdict(recovery)}))
    else:
        console.print(recovery_table(recovery))


def load(path: Path, policies: int) -> list[Checkpoint]:
    """The checkpoints of the first policies of an outcomes file, in training order."""
    lineages: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in pq.read_table(path).to_pylist():
        lineages.setdefault(row["policy"], {}).setdefault(row["step"], []).append(row)
    chosen = [lineages[name] for name in sorted(lineages)[:policies]]
    # Side by side, as they would train.
    rounds = zip_longest(*([steps[step] for step in sorted(steps)] for steps in chosen))
    return [_checkpoint(rows) for together in rounds for rows in together if rows]


def _checkpoint(rows: Sequence[Mapping[str, Any]]) -> Checkpoint:
    return Checkpoint(
        policy=rows[0]["policy"],
        step=rows[0]["step"],
        prompt_ids=[row["prompt_id"] for row in rows],
        prompts=[row["prompt"] for row in rows],
        rewards=np.array([row["reward"] for row in rows]),
        rollouts=[row["n_rollouts"] for row in rows],
        costs=[row["cost_tokens"] for row in rows],
    )


def learn(
    server: LocalServer,
    checkpoints: Sequence[Checkpoint],
    generator: np.random.Generator,
    console: Console,
) -> list[Score]:
    """Stream every checkpoint, and after each ask for prompts that are never streamed."""
    count = len(checkpoints[0].prompts)
    asked, *rest = np.split(generator.permutation(count), [min(_ASKED, count // 4)])
    streamable = np.concatenate(rest)
    scores = []
    means: dict[str, list[FloatArray]] = {}
    with Client(server.address) as client:
        for checkpoint in track(checkpoints, "streaming and asking", console=console):
            chosen = generator.choice(streamable, min(_STREAMED, len(streamable)), replace=False)
            with client.stream(checkpoint.policy, step=checkpoint.step) as stream:
                for i in chosen:
                    stream.add(
                        checkpoint.prompts[i],
                        checkpoint.rewards[i],
                        rollouts=checkpoint.rollouts[i],
                        cost=checkpoint.costs[i],
                        outcome_id=f"{checkpoint.step}/{checkpoint.prompt_ids[i]}",
                    )
            means.setdefault(checkpoint.policy, []).append(checkpoint.rewards[chosen])
            truth = checkpoint.rewards[asked]
            prompts = [checkpoint.prompts[i] for i in asked]
            # All that was streamed must be in the context.
            version = client.policy(checkpoint.policy).version
            icl, knn = (
                client.predict(checkpoint.policy, prompts, estimator=name, min_version=version)
                for name in ("ICL", "KNN")
            )
            window = np.concatenate(means[checkpoint.policy])[-knn.context.rows :]
            scores.append(
                Score(
                    policy=checkpoint.policy,
                    step=checkpoint.step,
                    streamed=len(chosen),
                    asked=len(prompts),
                    mean_reward=float(truth.mean()),
                    icl_auc=auc(truth, icl.mean),
                    knn_auc=auc(truth, knn.mean),
                    icl_mse=mse(truth, icl.mean),
                    knn_mse=mse(truth, knn.mean),
                    context_mean_mse=mse(truth, np.full(len(truth), window.mean())),
                )
            )
    return scores


def survive(server: LocalServer, checkpoints: Sequence[Checkpoint], console: Console) -> Recovery:
    """Kill the server with SIGKILL, start it again, and compare."""
    names = sorted({checkpoint.policy for checkpoint in checkpoints})
    prompts = checkpoints[0].prompts[:200]
    last = checkpoints[-1]
    with Client(server.address) as client:
        policies = {name: client.policy(name) for name in names}
        acked = sum(policy.outcomes for policy in policies.values())
        before = {
            name: client.predict(name, prompts, min_version=policy.version)
            for name, policy in policies.items()
        }
    console.print(f"killing process {server.pid} with SIGKILL ...")
    server.kill()
    started = time.perf_counter()
    with console.status("starting it again ..."):
        server.start()
    seconds = time.perf_counter() - started
    with Client(server.address) as client:
        after = {name: client.predict(name, prompts) for name in names}
        stored = {name: client.policy(name).outcomes for name in names}
        # As a client would that never saw the acks: everything of the last checkpoint again.
        ids = [f"{last.step}/{prompt_id}" for prompt_id in last.prompt_ids]
        again = client.update(
            last.policy,
            last.prompts,
            last.rewards,
            rollouts=last.rollouts,
            cost=last.costs,
            step=last.step,
            outcome_ids=ids,
        )
        twice = client.policy(last.policy).outcomes - stored[last.policy]
    change = max(float(np.abs(before[name].mean - after[name].mean).max()) for name in names)
    return Recovery(
        acked=acked,
        found_of_acked=sum(stored.values()),
        sent_again=again.duplicates,
        stored_twice=twice - again.accepted,
        largest_change_of_a_value=change,
        seconds_to_serving=seconds,
    )


def score_table(scores: Sequence[Score]) -> Table:
    """The scores, a row a checkpoint."""
    table = Table(
        title="Values of prompts never streamed, against what was observed",
        caption=f"{scores[0].streamed} outcomes streamed after each checkpoint,\n"
        f"{scores[0].asked} other prompts asked for\n"
        "ICL: the in-context head; kNN: 64 nearest of the context;\n"
        "mean: the context's mean reward",
    )
    table.add_column("policy", no_wrap=True)
    titles = ("reward", "AUC\nICL", "AUC\nkNN", "MSE\nICL", "MSE\nkNN", "MSE\nmean")
    for title in ("step", *titles):
        table.add_column(title, justify="right")
    for s in sorted(scores, key=lambda s: (s.policy, s.step)):
        table.add_row(s.policy, str(s.step), *(f"{value:.3f}" for value in _measured(s)))
    table.add_section()
    averages = np.nanmean([_measured(s) for s in scores], axis=0)
    table.add_row("mean", "", *(f"{value:.3f}" for value in averages), style="bold")
    return table


def _measured(score: Score) -> tuple[float, ...]:
    return (
        score.mean_reward,
        score.icl_auc,
        score.knn_auc,
        score.icl_mse,
        score.knn_mse,
        score.context_mean_mse,
    )


def recovery_table(recovery: Recovery) -> Table:
    """What the restart kept."""
    table = Table(title="After SIGKILL and a restart", show_header=False)
    rows = {
        "outcomes acknowledged before": f"{recovery.acked:,}",
        "of these, found after": f"{recovery.found_of_acked:,}",
        "sent again and recognised": f"{recovery.sent_again:,}",
        "stored twice": f"{recovery.stored_twice:,}",
        "largest change of a value": f"{recovery.largest_change_of_a_value:.1e}",
        "seconds to serving again": f"{recovery.seconds_to_serving:.1f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
