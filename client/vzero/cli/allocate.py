"""``vzero allocate``."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from vzero.cli import output
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    AsOfStep,
    Estimator,
    EstimatorName,
    MinVersion,
    Peers,
    PolicyId,
    Remembered,
    Timeout,
    connect,
)
from vzero.cli.prompts import PromptsFile, gathered
from vzero.decisions import Allocation


class ObjectiveName(StrEnum):
    """What an allocation maximises."""

    expected = "expected"
    utility = "utility"
    paper = "paper"
    nonzero_gradient = "nonzero_gradient"


def allocate(
    policy: PolicyId,
    total: Annotated[
        int, typer.Argument(help="Rollouts of all prompts together; tokens with --token-cost.")
    ],
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts to roll out.")
    ] = None,
    prompts_file: PromptsFile = None,
    minimum: Annotated[int, typer.Option(help="Fewest rollouts of a prompt.")] = 2,
    maximum: Annotated[int, typer.Option(help="Most rollouts of a prompt.")] = 128,
    multiple_of: Annotated[
        int, typer.Option(help="What the rollouts of each prompt are a multiple of.")
    ] = 1,
    objective: Annotated[
        ObjectiveName, typer.Option(help="What is maximised; paper is its greedy algorithm.")
    ] = ObjectiveName.expected,
    token_cost: Annotated[
        list[float] | None,
        typer.Option(
            metavar="TOKENS",
            help="Tokens of one rollout: once for all prompts, or once for each in their order.",
        ),
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip", help="A prompt may get no rollout instead of the minimum.")
    ] = False,
    uncertain_minimum: Annotated[
        int | None, typer.Option(help="Fewest rollouts of prompts whose value is uncertain.")
    ] = None,
    uncertain_width: Annotated[
        float | None, typer.Option(help="From what width on an interval is uncertain.  [0.8]")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Demand the optimum, however long it takes.")
    ] = False,
    estimator: Estimator = EstimatorName.auto,
    as_of_step: AsOfStep = None,
    min_version: MinVersion = None,
    peers: Peers = True,
    history: Remembered = True,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Divide rollouts among prompts so that a policy learns the most from them."""
    asked = gathered(prompts, prompts_file)
    with connect(address, timeout) as client:
        found = client.allocate(
            policy,
            asked,
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
            estimator=estimator.value,
            as_of_step=as_of_step,
            min_version=min_version,
            with_peers=peers,
            with_history=history,
        )
    if as_json:
        output.document(_document(policy, asked, found))
        return
    values = found.values
    output.table(
        ["prompt", "rollouts", "value", "90 % interval"],
        (
            [
                output.shorten(prompt),
                str(found.rollouts[i]),
                f"{values.mean[i]:.3f}",
                f"{values.lower[i]:.3f} - {values.upper[i]:.3f}",
            ]
            for i, prompt in enumerate(asked)
        ),
    )
    output.line(
        f"spent {found.spent:,.10g}, utility {found.utility:.6g} of at most "
        f"{found.upper_bound:.6g}, decision {found.decision_id}"
    )


def _document(policy: str, asked: list[str], found: Allocation) -> dict[str, object]:
    values = found.values
    return {
        "policy_id": policy,
        "allocation": [
            {
                "prompt": prompt,
                "rollouts": int(found.rollouts[i]),
                "mean": float(values.mean[i]),
                "lower": float(values.lower[i]),
                "upper": float(values.upper[i]),
            }
            for i, prompt in enumerate(asked)
        ],
        "utility": found.utility,
        "upper_bound": found.upper_bound,
        "spent": found.spent,
        "decision_id": found.decision_id,
        "context": asdict(values.context),
    }
