"""``vzero rank``."""

import math
from enum import StrEnum
from typing import Annotated, Any

import typer

from vzero.cli import output
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    Estimator,
    EstimatorName,
    Labels,
    Peers,
    Remembered,
    Timeout,
    connect,
    pairs,
)
from vzero.cli.prompts import PromptsFile, gathered
from vzero.decisions import Ranking


class ModeName(StrEnum):
    """Where success and cost are put together."""

    decomposed = "decomposed"
    paper = "paper"


def rank(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts to route.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", metavar="POLICY", help="A policy to rank; repeatable."),
    ] = None,
    fleet: Annotated[str | None, typer.Option(help="A stored fleet to rank.")] = None,
    prompts_file: PromptsFile = None,
    beta: Annotated[
        list[float] | None,
        typer.Option(help="From 0, cost alone, to 1, success alone; repeatable.  [0.7]"),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="POLICY=COST",
            help="Cost of a rollout, instead of what the server knows; repeatable.",
        ),
    ] = None,
    mode: Annotated[
        ModeName, typer.Option(help="Combine success and cost after the head, or before it.")
    ] = ModeName.decomposed,
    min_value: Annotated[
        float | None, typer.Option(help="Policies with a lower value come last.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Policies with a higher or unknown cost come last.")
    ] = None,
    label: Labels = None,
    estimator: Estimator = EstimatorName.auto,
    peers: Peers = True,
    history: Remembered = True,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Put policies in order for each prompt, by success and cost.

    Policies that do not carry every --label come last.
    """
    asked = gathered(prompts, prompts_file)
    with connect(address, timeout) as client:
        found = client.rank(
            asked,
            policies=policy or None,
            fleet=fleet,
            betas=beta or 0.7,
            costs={name: _cost(text) for name, text in pairs("--cost", cost).items()},
            mode=mode.value,
            min_value=min_value,
            max_cost=max_cost,
            labels=pairs("--label", label),
            estimator=estimator.value,
            with_peers=peers,
            with_history=history,
        )
    if as_json:
        output.document(
            {"rankings": [_document(prompt, one) for prompt, one in zip(asked, found, strict=True)]}
        )
        return
    for prompt, one in zip(asked, found, strict=True):
        _print(prompt, one)


def _cost(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"--cost takes POLICY=COST, and {text!r} is no number") from None


def _print(prompt: str, found: Ranking) -> None:
    places = found.orders.argsort(axis=1)
    more = range(1, len(found.betas))
    output.table(
        [
            "policy",
            f"score at {found.betas[0]:g}",
            "value",
            "90 % interval",
            "cost",
            "passes",
            *(f"place at {found.betas[i]:g}" for i in more),
        ],
        (
            [
                name,
                f"{found.scores[i]:.3f}",
                f"{found.mean[i]:.3f}",
                f"{found.lower[i]:.3f} - {found.upper[i]:.3f}",
                "-" if math.isnan(found.expected_cost[i]) else f"{found.expected_cost[i]:,.6g}",
                "yes" if found.eligible[i] else "no",
                *(str(places[j, i] + 1) for j in more),
            ]
            for i, name in enumerate(found.policies)
        ),
        title=f"{output.shorten(prompt)}  (decision {found.decision_id})",
    )


def _document(prompt: str, found: Ranking) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "decision_id": found.decision_id,
        "candidates": [
            {
                "policy_id": name,
                "score": float(found.scores[i]),
                "mean": float(found.mean[i]),
                "lower": float(found.lower[i]),
                "upper": float(found.upper[i]),
                "effective_sample_size": float(found.effective_sample_size[i]),
                "basis": str(found.basis[i]),
                "expected_cost": (
                    None if math.isnan(found.expected_cost[i]) else float(found.expected_cost[i])
                ),
                "eligible": bool(found.eligible[i]),
            }
            for i, name in enumerate(found.policies)
        ],
        "orders": [
            {
                "beta": float(beta),
                "policies": [found.policies[i] for i in found.orders[j]],
                "scores": found.order_scores[j].tolist(),
            }
            for j, beta in enumerate(found.betas)
        ],
    }
