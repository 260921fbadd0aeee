"""``vzero policies``."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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
from vzero.values import Policy


class _ListByDefault(TyperGroup):
    """A group that lists when no command is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - not exported
        """Put ``list`` in front unless a command, or help, is asked for."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def build() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(cls=_ListByDefault, help="List, show or delete policies.")
    group.command("list")(list_)
    group.command("show")(show)
    group.command("delete")(delete)
    return group


def list_(
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """List all policies. This is what `vzero policies` does by itself."""
    with connect(address, timeout) as client:
        found = client.policies()
    if as_json:
        output.document({"policies": [_fields(policy) for policy in found]})
    elif not found:
        output.line("no policies")
    else:
        output.table(
            ["policy", "outcomes", "mean reward", "newest step", "updated"],
            (
                [
                    policy.policy_id,
                    f"{policy.version:,}",
                    f"{policy.mean_reward:.3f}",
                    "-" if policy.newest_step is None else str(policy.newest_step),
                    f"{policy.updated_at:%Y-%m-%d %H:%M}",
                ]
                for policy in found
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
        found = client.policy(policy)
    if as_json:
        output.document(_fields(found))
        return
    for name, value in _fields(found).items():
        output.line(f"{name:<12} {'-' if value is None else value}")


def delete(
    policy: PolicyId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Forget a policy and all its outcomes."""
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise lines.BadInput("deleting cannot be undone: add --yes")
        typer.confirm(f"Forget {policy} and all its outcomes?", abort=True)
    with connect(address, timeout) as client:
        outcomes = client.delete(policy)
    if as_json:
        output.document({"policy_id": policy, "outcomes": outcomes})
    else:
        output.line(f"{policy}: {outcomes:,} outcomes deleted")


def _fields(policy: Policy) -> dict[str, Any]:
    return {
        "policy_id": policy.policy_id,
        "version": policy.version,
        "newest_step": policy.newest_step,
        "mean_reward": policy.mean_reward,
        "created_at": policy.created_at.isoformat(),
        "updated_at": policy.updated_at.isoformat(),
    }
