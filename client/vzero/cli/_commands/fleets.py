"""``vzero fleet``."""

from typing import Annotated, Any

import typer

from vzero.cli import output
from vzero.cli._groups import ListByDefault
from vzero.cli.options import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT,
    Address,
    AsJson,
    Timeout,
    connect,
)
from vzero.values import Fleet

Name = Annotated[str, typer.Argument(metavar="FLEET", help="Name of the fleet.")]


def build() -> typer.Typer:
    """Return the group of commands."""
    group = typer.Typer(
        cls=ListByDefault,
        help="List, show, set or delete fleets, which are lists of policies to rank.",
    )
    group.command("list")(list_)
    group.command("show")(show)
    group.command("set")(set_)
    group.command("delete")(delete)
    return group


def list_(
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """List all fleets; `vzero fleet` alone does the same."""
    with connect(address, timeout) as client:
        fleets = client.fleets()
    if as_json:
        output.document({"fleets": [_fields(fleet) for fleet in fleets]})
    elif not fleets:
        output.line("no fleets")
    else:
        output.table(
            ["fleet", "policies"],
            ([fleet.name, f"{len(fleet.policies)}"] for fleet in fleets),
        )


def show(
    fleet: Name,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Print the policies of a fleet, one per line."""
    with connect(address, timeout) as client:
        described = client.fleet(fleet)
    if as_json:
        output.document(_fields(described))
        return
    for policy_id in described.policies:
        output.line(policy_id)


def set_(
    fleet: Name,
    policies: Annotated[
        list[str], typer.Argument(metavar="POLICY...", help="Policies of the fleet, each once.")
    ],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Store a fleet. It replaces a fleet of the same name."""
    with connect(address, timeout) as client:
        stored = client.update_fleet(fleet, policies)
    if as_json:
        output.document(_fields(stored))
    else:
        output.line(f"{stored.name}: {len(stored.policies)} policies")


def delete(
    fleet: Name,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Delete a fleet; its policies stay."""
    with connect(address, timeout) as client:
        client.delete_fleet(fleet)
    if as_json:
        output.document({"name": fleet})
    else:
        output.line(f"{fleet}: deleted")


def _fields(fleet: Fleet) -> dict[str, Any]:
    return {"name": fleet.name, "policies": list(fleet.policies)}
