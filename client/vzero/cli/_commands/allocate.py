"""``vzero allocate``."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Unpack

import typer

from vzero._options import ReadOptions
from vzero.cli import output
from vzero.cli._prompts import PromptsFile, collect_prompts
from vzero.cli._read_options import takes
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    PolicyId,
    Prompts,
    Timeout,
    connect,
)
from vzero.decisions import Allocation


class ObjectiveName(StrEnum):
    """Objective of an allocation."""

    expected = "expected"
    utility = "utility"
    paper = "paper"
    nonzero_gradient = "nonzero_gradient"


@takes(ReadOptions)
def allocate(
    policy: PolicyId,
    total: Annotated[
        int,
        typer.Argument(
            metavar="TOTAL", help="Rollouts of all prompts together; with --token-cost, tokens."
        ),
    ],
    prompts: Prompts = None,
    prompts_file: PromptsFile = None,
    minimum: Annotated[int, typer.Option(help="Fewest rollouts of a prompt.")] = 2,
    maximum: Annotated[int, typer.Option(help="Most rollouts of a prompt.")] = 128,
    multiple_of: Annotated[
        int, typer.Option(help="Number that divides the rollouts of each prompt.")
    ] = 1,
    objective: Annotated[
        ObjectiveName,
        typer.Option(help="Objective to maximise; paper is the greedy algorithm of the paper."),
    ] = ObjectiveName.expected,
    token_cost: Annotated[
        list[float] | None,
        typer.Option(
            metavar="TOKENS",
            help="Tokens of one rollout: once for all prompts, or once for each prompt in order.",
        ),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="Allow no rollout instead of the minimum.")
    ] = False,
    uncertain_minimum: Annotated[
        int | None, typer.Option(help="Fewest rollouts of prompts with an uncertain value.")
    ] = None,
    uncertain_width: Annotated[
        float | None,
        typer.Option(help="Width of the interval from which a value is uncertain; 0.8 by default."),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compute the optimum, however long it takes.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
    **options: Unpack[ReadOptions],
) -> None:
    """Divide rollouts among prompts so that a policy learns the most from them."""
    texts = collect_prompts(prompts, prompts_file)
    with connect(address, timeout) as client:
        allocation = client.allocate(
            policy,
            texts,
            total,
            minimum=minimum,
            maximum=maximum,
            multiple_of=multiple_of,
            objective=objective.value,
            token_costs=token_cost[0] if token_cost and len(token_cost) == 1 else token_cost,
            skip=skip,
            uncertain_minimum=uncertain_minimum,
            uncertain_width=uncertain_width,
            exact=exact,
            **options,
        )
    if as_json:
        output.document(_document(policy, texts, allocation))
        return
    values = allocation.values
    output.table(
        ["prompt", "rollouts", "value", "90 % interval"],
        (
            [
                output.shorten(prompt),
                str(allocation.rollouts[i]),
                f"{values.mean[i]:.3f}",
                f"{values.lower[i]:.3f} - {values.upper[i]:.3f}",
            ]
            for i, prompt in enumerate(texts)
        ),
    )
    output.line(
        f"spent {allocation.spent:,.10g}, utility {allocation.utility:.6g} of at most "
        f"{allocation.upper_bound:.6g}, decision {allocation.decision_id}"
    )


def _document(policy: str, prompts: list[str], allocation: Allocation) -> dict[str, object]:
    values = allocation.values
    return {
        "policy_id": policy,
        "allocation": [
            {
                "prompt": prompt,
                "rollouts": int(allocation.rollouts[i]),
                "mean": float(values.mean[i]),
                "lower": float(values.lower[i]),
                "upper": float(values.upper[i]),
            }
            for i, prompt in enumerate(prompts)
        ],
        "utility": allocation.utility,
        "upper_bound": allocation.upper_bound,
        "spent": allocation.spent,
        "decision_id": allocation.decision_id,
        "context": asdict(values.context),
    }
