"""The first half of the demo: outcomes are streamed, and values compared with rewards."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vzero import Client
from vzero_server.testing.local_server import LocalServer
from vzero_server.types import FloatArray
from vzero_train.demo.checkpoints import Checkpoint
from vzero_train.evaluation.metrics import auc, mse

# Prompts per checkpoint whose outcomes are streamed, and other prompts that are only predicted.
# The server's window of 2,048 outcomes holds the last four checkpoints.
_STREAMED = 512
_HELD_OUT = 300


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy of the values of prompts that were never streamed."""

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


def learn(
    server: LocalServer,
    checkpoints: Sequence[Checkpoint],
    generator: np.random.Generator,
    console: Console,
) -> tuple[list[Score], list[str]]:
    """Stream every checkpoint; after each, predict prompts that are never streamed.

    Returns:
        Scores by checkpoint, and the prompts that were streamed last.
    """
    count = len(checkpoints[0].prompts)
    order = generator.permutation(count)
    held_out, streamable = np.split(order, [min(_HELD_OUT, count // 4)])
    scores = []
    means: dict[str, list[FloatArray]] = {}
    with Client(server.address) as client:
        for checkpoint in track(checkpoints, "streaming and predicting", console=console):
            streamed = generator.choice(streamable, min(_STREAMED, len(streamable)), replace=False)
            with client.stream(checkpoint.policy, step=checkpoint.step) as stream:
                for i in streamed:
                    stream.add(
                        checkpoint.prompts[i],
                        checkpoint.rewards[i],
                        rollouts=checkpoint.rollouts[i],
                        cost=checkpoint.costs[i],
                        outcome_id=f"{checkpoint.step}/{checkpoint.prompt_ids[i]}",
                    )
            means.setdefault(checkpoint.policy, []).append(checkpoint.rewards[streamed])
            observed = checkpoint.rewards[held_out]
            prompts = [checkpoint.prompts[i] for i in held_out]
            # All streamed outcomes must be in the context.
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
                    streamed=len(streamed),
                    asked=len(prompts),
                    mean_reward=float(observed.mean()),
                    icl_auc=auc(observed, icl.mean),
                    knn_auc=auc(observed, knn.mean),
                    icl_mse=mse(observed, icl.mean),
                    knn_mse=mse(observed, knn.mean),
                    context_mean_mse=mse(observed, np.full(len(observed), window.mean())),
                )
            )
    return scores, [checkpoint.prompts[i] for i in streamed]


def score_table(scores: Sequence[Score]) -> Table:
    """Return a table of the scores, one row per checkpoint."""
    table = Table(
        title="Values of prompts never streamed, against observed rewards",
        caption=f"{scores[0].streamed} outcomes streamed after each checkpoint,\n"
        f"{scores[0].asked} other prompts predicted\n"
        "ICL: the in-context head; kNN: 64 nearest of the context;\n"
        "mean: the context's mean reward",
    )
    table.add_column("policy", no_wrap=True)
    titles = ("reward", "AUC\nICL", "AUC\nkNN", "MSE\nICL", "MSE\nkNN", "MSE\nmean")
    for title in ("step", *titles):
        table.add_column(title, justify="right")
    for score in sorted(scores, key=lambda score: (score.policy, score.step)):
        cells = [f"{value:.3f}" for value in _measured(score)]
        table.add_row(score.policy, str(score.step), *cells)
    table.add_section()
    averages = np.nanmean([_measured(score) for score in scores], axis=0)
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
