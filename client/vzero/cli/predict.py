"""``vzero predict``."""

from dataclasses import asdict
from typing import Annotated, Any

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
from vzero.values import Values


def predict(
    policy: PolicyId,
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts to estimate.")
    ] = None,
    prompts_file: PromptsFile = None,
    estimator: Estimator = EstimatorName.auto,
    as_of_step: AsOfStep = None,
    min_version: MinVersion = None,
    peers: Peers = True,
    history: Remembered = True,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Estimate how likely a policy is to succeed on prompts."""
    asked = gathered(prompts, prompts_file)
    with connect(address, timeout) as client:
        values = client.predict(
            policy,
            asked,
            estimator=estimator.value,
            as_of_step=as_of_step,
            min_version=min_version,
            with_peers=peers,
            with_history=history,
        )
    if as_json:
        output.document(
            {
                "policy_id": policy,
                "values": _rows(asked, values),
                "context": asdict(values.context),
            }
        )
        return
    output.table(
        ["prompt", "value", "90 % interval", "worth", "basis", "remembers"],
        (
            [
                output.shorten(row["prompt"]),
                f"{row['mean']:.3f}",
                f"{row['lower']:.3f} - {row['upper']:.3f}",
                f"{row['effective_sample_size']:.1f}",
                row["basis"],
                f"{row['history']['rollouts']} rollouts" if row["history"] else "",
            ]
            for row in _rows(asked, values)
        ),
    )
    output.line(_context(values))


def _rows(asked: list[str], values: Values) -> list[dict[str, Any]]:
    return [
        {
            "prompt": prompt,
            "mean": float(values.mean[i]),
            "lower": float(values.lower[i]),
            "upper": float(values.upper[i]),
            "effective_sample_size": float(values.effective_sample_size[i]),
            "basis": str(values.basis[i]),
            "history": _history(values, i),
        }
        for i, prompt in enumerate(asked)
    ]


def _history(values: Values, i: int) -> dict[str, Any] | None:
    """What a value remembers of its prompt."""
    history = values.history
    if history is None or not history.rollouts[i]:
        return None
    newest = int(history.newest_step[i])
    return {
        "rollouts": int(history.rollouts[i]),
        "weight": float(history.weight[i]),
        "newest_step": None if newest < 0 else newest,
        "age_seconds": float(history.age_seconds[i]),
    }


def _context(values: Values) -> str:
    """One line on what the values rest on."""
    context = values.context
    parts = [f"{context.rows:,} outcomes", f"version {context.version}"]
    if context.newest_step is not None:
        parts.append(f"newest step {context.newest_step}")
    if context.age_seconds is not None:
        parts.append(f"newest outcome {context.age_seconds:,.0f} s old")
    if context.peers:
        parts.append(f"{context.peers} other policies")
    return "context: " + ", ".join(parts)
