"""All commands put together, and the one place where an error becomes an exit code."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import grpc
import typer
from typer.core import TyperGroup

import vzero
from vzero.cli import allocate, bundles, fleets, plugins, policies, predict, rank, update
from vzero.errors import InvalidArgument, VzeroError

FAILED = 1
BAD_INPUT = 2


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vzero {vzero.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """How likely is this policy to succeed on this prompt, before any rollout?"""


def build() -> TyperGroup:
    """Return the command line with all its commands, those of other packages included."""
    app = typer.Typer(add_completion=True, pretty_exceptions_enable=False)
    app.callback()(_root)
    app.command("predict")(predict.predict)
    app.command("update")(update.update)
    app.command("allocate")(allocate.allocate)
    app.command("rank")(rank.rank)
    app.add_typer(policies.build(), name="policies")
    app.add_typer(fleets.build(), name="fleet")
    app.command("export")(bundles.export)
    app.command("import")(bundles.import_)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for command in plugins.commands():
        group.add_command(command)
    return group


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    0 is success, 1 an error of the server or on the way to it, 2 bad usage or bad input.

    Args:
        arguments: what follows the name of the program; None: those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    run(build(), given or ["--help"], program="vzero")


def run(command: Any, arguments: Sequence[str] | None, *, program: str) -> None:  # noqa: ANN401
    """Run a typer command and leave with its exit code, as ``main`` does.

    Args:
        command: from ``typer.main.get_command``, which exports no name for its type.
        arguments: what follows the name of the program; None: those of the process.
        program: its name in help texts.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        code = command.main(given, prog_name=program, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (try '{context.command_path} --help')" if context is not None else ""
        _complain({"type": "Usage", "message": error.format_message()}, as_json, hint)
        code = error.exit_code
    except VzeroError as error:
        _complain(_describe(error), as_json)
        local = isinstance(error, InvalidArgument) and error.code is None
        code = BAD_INPUT if local else FAILED
    except OSError as error:
        _complain({"type": "OSError", "message": str(error)}, as_json)
        code = BAD_INPUT
    except typer.Abort:
        _complain({"type": "Aborted", "message": "aborted"}, as_json)
        code = FAILED
    sys.exit(code if isinstance(code, int) else 0)


def _complain(error: dict[str, Any], as_json: bool, hint: str = "") -> None:
    """Write one line to stderr."""
    if as_json:
        line = json.dumps({"error": error}, ensure_ascii=False)
    else:
        message = " ".join(error["message"].split())
        line = f"{'' if message.startswith('vzero ') else 'vzero: '}{message}{hint}"
    print(line, file=sys.stderr)


def _describe(error: VzeroError) -> dict[str, Any]:
    """An error and its attributes as JSON values."""
    fields: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    for name, value in vars(error).items():
        if isinstance(value, grpc.StatusCode):
            fields[name] = value.name
        elif name == "violations":
            fields[name] = [{"field": field, "description": text} for field, text in value]
        elif value is not None:
            fields[name] = value if isinstance(value, int | float | str) else str(value)
    return fields
