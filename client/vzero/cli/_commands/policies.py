"""``vzero policies``."""

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from vzero.cli import output
from vzero.cli._groups import ListByDefault
from vzero.cli.errors import BadInput
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    Labels,
    PolicyId,
    Timeout,
    connect,
    parse_pairs,
)
from vzero.values import KEEP, Keep, Policy, Price


def build() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(cls=ListByDefault, help="List, show, price or delete policies.")
    group.command("list")(list_)
    group.command("show")(show)
    group.command("price")(price)
    group.command("delete")(delete)
    return group


def list_(
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """List all policies; `vzero policies` alone does the same."""
    with connect(address, timeout) as client:
        policies = client.policies()
    if as_json:
        output.document({"policies": [_fields(policy) for policy in policies]})
    elif not policies:
        output.line("no policies")
    else:
        output.table(
            ["policy", "outcomes", "mean reward", "newest step", "updated"],
            (
                [
                    policy.policy_id,
                    f"{policy.outcomes:,}",
                    f"{policy.mean_reward:.3f}",
                    "-" if policy.newest_step is None else str(policy.newest_step),
                    f"{policy.updated_at:%Y-%m-%d %H:%M}",
                ]
                for policy in policies
            ),
        )


def show(
    policy: PolicyId,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Describe one policy."""
    with connect(address, timeout) as client:
        _show(client.policy(policy), as_json)


def price(
    policy: PolicyId,
    params: Annotated[
        float | None,
        typer.Option(help="Size relative to other policies, such as 7 for 7 billion parameters."),
    ] = None,
    money: Annotated[float | None, typer.Option(help="Price of one token, in money.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Remove the price.")] = False,
    label: Labels = None,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Set the price of a token of a policy, or all its labels.

    An unknown policy is created without outcomes.
    """
    choices = [params is not None, money is not None, none]
    if sum(choices) > 1 or not (any(choices) or label):
        raise BadInput("give one of --params, --money and --none, or at least one --label")
    new_price: Price | Keep | None = KEEP
    if params is not None:
        new_price = Price(params, "params")
    elif money is not None:
        new_price = Price(money, "money")
    elif none:
        new_price = None
    labels = parse_pairs("--label", label) if label else None
    with connect(address, timeout) as client:
        _show(client.update_policy(policy, price=new_price, labels=labels), as_json)


def delete(
    policy: PolicyId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Delete a policy and all its outcomes."""
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise BadInput("a deleted policy cannot be restored: add --yes to confirm")
        typer.confirm(f"Delete {policy} and all its outcomes?", abort=True)
    with connect(address, timeout) as client:
        outcomes = client.delete(policy)
    if as_json:
        output.document({"policy_id": policy, "outcomes": outcomes})
    else:
        output.line(f"{policy}: {outcomes:,} outcomes deleted")


def _show(policy: Policy, as_json: bool) -> None:
    fields = _fields(policy)
    if as_json:
        output.document(fields)
        return
    if policy.price is not None:
        unit = "parameters" if policy.price.unit == "params" else "money"
        fields["price"] = f"{policy.price.per_token:g} per token, in {unit}"
    fields["labels"] = ", ".join(f"{name}={value}" for name, value in policy.labels.items()) or None
    for name, value in fields.items():
        output.line(f"{name:<12} {'-' if value is None else value}")


def _fields(policy: Policy) -> dict[str, Any]:
    return {
        "policy_id": policy.policy_id,
        "version": policy.version,
        "outcomes": policy.outcomes,
        "newest_step": policy.newest_step,
        "mean_reward": policy.mean_reward,
        "created_at": policy.created_at.isoformat(),
        "updated_at": policy.updated_at.isoformat(),
        "mean_cost": policy.mean_cost,
        "mean_tokens": policy.mean_tokens,
        "price": None if policy.price is None else asdict(policy.price),
        "labels": policy.labels,
    }
