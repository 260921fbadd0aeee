"""``vzero fleet``."""

from typing import Annotated, Any

import typer

from vzero.cli import output
from vzero.cli.groups import ListByDefault
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
        cls=ListByDefault, help="List, show, set or delete fleets: policies that rank ranks."
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
    """List all fleets. This is what `vzero fleet` does by itself."""
    with connect(address, timeout) as client:
        found = client.fleets()
    if as_json:
        output.document({"fleets": [_fields(fleet) for fleet in found]})
    elif not found:
        output.line("no fleets")
    else:
        output.table(
            ["fleet", "policies"],
            ([fleet.name, f"{len(fleet.policies)}"] for fleet in found),
        )


def show(
    fleet: Name,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Name the policies of a fleet, one per line."""
    with connect(address, timeout) as client:
        found = client.fleet(fleet)
    if as_json:
        output.document(_fields(found))
        return
    for policy_id in found.policies:
        output.line(policy_id)


def set_(
    fleet: Name,
    policies: Annotated[
        list[str], typer.Argument(metavar="POLICY...", help="Its policies, each once.")
    ],
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """Store a fleet, in place of the one of that name."""
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
    """Forget a fleet; its policies stay."""
    with connect(address, timeout) as client:
        client.delete_fleet(fleet)
    if as_json:
        output.document({"name": fleet})
    else:
        output.line(f"{fleet}: deleted")


def _fields(fleet: Fleet) -> dict[str, Any]:
    return {"name": fleet.name, "policies": list(fleet.policies)}
