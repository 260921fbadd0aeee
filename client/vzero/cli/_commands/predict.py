"""``vzero predict``."""

from dataclasses import asdict
from typing import Any, Unpack

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
from vzero.values import Values


@takes(ReadOptions)
def predict(
    policy: PolicyId,
    prompts: Prompts = None,
    prompts_file: PromptsFile = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
    **options: Unpack[ReadOptions],
) -> None:
    """Estimate how likely a policy is to succeed on prompts."""
    texts = collect_prompts(prompts, prompts_file)
    with connect(address, timeout) as client:
        values = client.predict(policy, texts, **options)
    if as_json:
        output.document(
            {
                "policy_id": policy,
                "values": _rows(texts, values),
                "context": asdict(values.context),
            }
        )
        return
    output.table(
        ["prompt", "value", "90 % interval", "sample size", "basis", "history"],
        (
            [
                output.shorten(row["prompt"]),
                f"{row['mean']:.3f}",
                f"{row['lower']:.3f} - {row['upper']:.3f}",
                f"{row['effective_sample_size']:.1f}",
                row["basis"],
                f"{row['history']['rollouts']} rollouts" if row["history"] else "",
            ]
            for row in _rows(texts, values)
        ),
    )
    output.line(_context(values))


def _rows(prompts: list[str], values: Values) -> list[dict[str, Any]]:
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
        for i, prompt in enumerate(prompts)
    ]


def _history(values: Values, i: int) -> dict[str, Any] | None:
    """Return the history of a prompt; None if it has none."""
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
    """Return one line about the outcomes behind the values."""
    context = values.context
    parts = [f"{context.rows:,} outcomes", f"version {context.version}"]
    if context.newest_step is not None:
        parts.append(f"newest step {context.newest_step}")
    if context.age_seconds is not None:
        parts.append(f"newest outcome {context.age_seconds:,.0f} s old")
    if context.peers:
        parts.append(f"{context.peers} other policies")
    return "context: " + ", ".join(parts)
