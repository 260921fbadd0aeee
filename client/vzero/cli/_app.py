"""The command line: all commands, and the exit codes of their errors."""

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import grpc
import typer
from typer.core import TyperGroup

import vzero
from vzero.cli import _plugins
from vzero.cli._commands import (
    allocate,
    bundles,
    fleets,
    info,
    policies,
    predict,
    rank,
    update,
)
from vzero.errors import InvalidArgument, VzeroError

FAILED = 1
BAD_INPUT = 2


def _print_version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"vzero {vzero.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """How likely is this policy to succeed on this prompt, before any rollout?"""


def build() -> TyperGroup:
    """Return the command line with all commands, those of other packages included."""
    app = typer.Typer(add_completion=True, pretty_exceptions_enable=False)
    app.callback()(_root)
    app.command("predict")(predict.predict)
    app.command("update")(update.update)
    app.command("allocate")(allocate.allocate)
    app.command("rank")(rank.rank)
    app.add_typer(policies.build(), name="policies")
    app.add_typer(fleets.build(), name="fleet")
    app.command("info")(info.info)
    app.command("export")(bundles.export)
    app.command("import")(bundles.import_)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    for command in _plugins.plugin_commands():
        group.add_command(command)
    return group


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    The exit code is 0 after success, 1 after an error of the server or the connection, and 2
    after bad usage or bad input.

    Args:
        arguments: arguments after the name of the program; None: those of the process.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    run(build(), argv or ["--help"], program="vzero")


def run(command: Any, arguments: Sequence[str] | None, *, program: str) -> None:  # noqa: ANN401
    """Run a typer command and exit, with the exit codes of ``main``.

    Args:
        command: result of ``typer.main.get_command``, whose type has no public name.
        arguments: arguments after the name of the program; None: those of the process.
        program: name of the program, for help texts.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in argv
    try:
        code = command.main(argv, prog_name=program, standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (try '{context.command_path} --help')" if context is not None else ""
        _print_error({"type": "Usage", "message": error.format_message()}, as_json, hint)
        code = error.exit_code
    except VzeroError as error:
        _print_error(_describe(error), as_json)
        found_here = isinstance(error, InvalidArgument) and error.code is None
        code = BAD_INPUT if found_here else FAILED
    except OSError as error:
        _print_error({"type": "OSError", "message": str(error)}, as_json)
        code = BAD_INPUT
    except typer.Abort:
        _print_error({"type": "Aborted", "message": "aborted"}, as_json)
        code = FAILED
    sys.exit(code if isinstance(code, int) else 0)


def _print_error(error: dict[str, Any], as_json: bool, hint: str = "") -> None:
    """Print an error to stderr, on one line."""
    if as_json:
        line = json.dumps({"error": error}, ensure_ascii=False)
    else:
        message = " ".join(error["message"].split())
        line = f"{'' if message.startswith('vzero ') else 'vzero: '}{message}{hint}"
    print(line, file=sys.stderr)


def _describe(error: VzeroError) -> dict[str, Any]:
    """Return an error and its attributes as JSON values."""
    fields: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
    for name, value in vars(error).items():
        if isinstance(value, grpc.StatusCode):
            fields[name] = value.name
        elif name == "violations":
            fields[name] = [{"field": field, "description": text} for field, text in value]
        elif value is not None:
            fields[name] = value if isinstance(value, int | float | str) else str(value)
    return fields
