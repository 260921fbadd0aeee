"""``vzero rank``."""

import math
from enum import StrEnum
from typing import Annotated, Any, Unpack

import typer

from vzero._options import ValueOptions
from vzero.cli import output
from vzero.cli._prompts import PromptsFile, collect_prompts
from vzero.cli._read_options import takes
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    Labels,
    Prompts,
    Timeout,
    connect,
    parse_pairs,
)
from vzero.decisions import Ranking


class ModeName(StrEnum):
    """Stage at which success and cost are combined."""

    decomposed = "decomposed"
    paper = "paper"


@takes(ValueOptions)
def rank(
    prompts: Prompts = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="POLICY", help="Policy to rank; repeatable."),
    ] = None,
    fleet: Annotated[str | None, typer.Option(help="Fleet to rank, instead of policies.")] = None,
    prompts_file: PromptsFile = None,
    beta: Annotated[
        list[float] | None,
        typer.Option(
            help="Preference from 0, cost alone, to 1, success alone; repeatable. 0.7 by default."
        ),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY=COST",
            help="Cost of a rollout, instead of the cost that the server knows; repeatable.",
        ),
    ] = None,
    mode: Annotated[
        ModeName,
        typer.Option(
            help="Combine success and cost after the head reads the outcomes, or before it."
        ),
    ] = ModeName.decomposed,
    min_value: Annotated[
        float | None, typer.Option(help="Policies with a lower value come last.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Policies with a higher or unknown cost come last.")
    ] = None,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
    **options: Unpack[ValueOptions],
) -> None:
    """Rank policies for each prompt by success and cost.

    Policies that do not have every --label come last.
    """
    texts = collect_prompts(prompts, prompts_file)
    with connect(address, timeout) as client:
        rankings = client.rank(
            texts,
            policies=policy or None,
            fleet=fleet,
            betas=beta or 0.7,
            costs={name: _parse_cost(text) for name, text in parse_pairs("--cost", cost).items()},
            mode=mode.value,
            min_value=min_value,
            max_cost=max_cost,
            labels=parse_pairs("--label", label),
            **options,
        )
    if as_json:
        documents = [
            _document(prompt, ranking) for prompt, ranking in zip(texts, rankings, strict=True)
        ]
        output.document({"rankings": documents})
        return
    for prompt, ranking in zip(texts, rankings, strict=True):
        _print(prompt, ranking)


def _parse_cost(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"--cost takes POLICY=COST, and {text!r} is not a number"
        ) from None


def _print(prompt: str, ranking: Ranking) -> None:
    ranks = ranking.orders.argsort(axis=1)
    other_betas = range(1, len(ranking.betas))
    output.table(
        [
            "policy",
            f"score at {ranking.betas[0]:g}",
            "value",
            "90 % interval",
            "cost",
            "passes",
            *(f"place at {ranking.betas[i]:g}" for i in other_betas),
        ],
        (
            [
                name,
                f"{ranking.scores[i]:.3f}",
                f"{ranking.mean[i]:.3f}",
                f"{ranking.lower[i]:.3f} - {ranking.upper[i]:.3f}",
                "-" if math.isnan(ranking.expected_cost[i]) else f"{ranking.expected_cost[i]:,.6g}",
                "yes" if ranking.eligible[i] else "no",
                *(str(ranks[j, i] + 1) for j in other_betas),
            ]
            for i, name in enumerate(ranking.policies)
        ),
        title=f"{output.shorten(prompt)}  (decision {ranking.decision_id})",
    )


def _document(prompt: str, ranking: Ranking) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "decision_id": ranking.decision_id,
        "candidates": [
            {
                "policy_id": name,
                "score": float(ranking.scores[i]),
                "mean": float(ranking.mean[i]),
                "lower": float(ranking.lower[i]),
                "upper": float(ranking.upper[i]),
                "effective_sample_size": float(ranking.effective_sample_size[i]),
                "basis": str(ranking.basis[i]),
                "expected_cost": (
                    None
                    if math.isnan(ranking.expected_cost[i])
                    else float(ranking.expected_cost[i])
                ),
                "eligible": bool(ranking.eligible[i]),
            }
            for i, name in enumerate(ranking.policies)
        ],
        "orders": [
            {
                "beta": float(beta),
                "policies": [ranking.policies[i] for i in ranking.orders[j]],
                "scores": ranking.order_scores[j].tolist(),
            }
            for j, beta in enumerate(ranking.betas)
        ],
    }
