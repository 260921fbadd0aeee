"""``vzero predict``."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from vzero.cli import lines, output
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    PolicyId,
    Timeout,
    connect,
)
from vzero.values import Values


class EstimatorName(StrEnum):
    """What computes the values."""

    auto = "auto"
    knn = "knn"
    icl = "icl"
    tabpfn = "tabpfn"


def predict(
    policy: PolicyId,
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT]...", help="Prompts to estimate.")
    ] = None,
    prompts_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Also the prompts of this file, one per line; - is standard input. In a file "
            "named .jsonl a line is a JSON string or an object with a prompt.",
        ),
    ] = None,
    estimator: Annotated[
        EstimatorName, typer.Option(help="What computes the values.")
    ] = EstimatorName.auto,
    as_of_step: Annotated[
        int | None, typer.Option(min=0, help="Use only outcomes of steps up to this.")
    ] = None,
    min_version: Annotated[
        int | None, typer.Option(min=0, help="Wait for this version of the context.")
    ] = None,
    peers: Annotated[
        bool,
        typer.Option(help="Correct values by what other policies earned on the same prompts."),
    ] = True,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Estimate how likely a policy is to succeed on prompts."""
    asked = list(prompts or ())
    if prompts_file is not None:
        with lines.opened(prompts_file) as file:
            asked += lines.prompts(file, prompts_file.endswith(".jsonl"))
    if not asked:
        raise lines.BadInput("no prompts: name some, or a file with --prompts-file")
    with connect(address, timeout) as client:
        values = client.predict(
            policy,
            asked,
            estimator=estimator.value,
            as_of_step=as_of_step,
            min_version=min_version,
            with_peers=peers,
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
        ["prompt", "value", "90 % interval", "worth", "basis"],
        (
            [
                output.shorten(row["prompt"]),
                f"{row['mean']:.3f}",
                f"{row['lower']:.3f} - {row['upper']:.3f}",
                f"{row['effective_sample_size']:.1f}",
                row["basis"],
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
        }
        for i, prompt in enumerate(asked)
    ]


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
