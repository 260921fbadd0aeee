"""``vzero serve``: runs the server."""

import asyncio
import json
import logging
import os
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from vzero_server.settings import Settings


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default: 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one; default: 50051.")
    ] = None,
    admin_port: Annotated[
        int | None,
        typer.Option(help="HTTP port of metrics and probes; 0 takes a free one; default: none."),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the durable log; default: vzero-data.")
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Profile: 'compact', 'paper' or a TOML file; default: compact."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="'packaged' (MiniLM), a folder, or a hub name; default: packaged."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Torch device, or 'auto'; default: auto.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with any of the settings.")] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error; default: info.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the address, or the error, as JSON.")
    ] = False,
) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    Every setting can also be given as an environment variable VZERO_<NAME> or in the TOML
    file. Flags take precedence over the environment, and the environment over the file.
    docs/configuration.md lists all settings.
    """
    flags = {
        "host": host,
        "port": port,
        "admin_port": admin_port,
        "data_dir": data_dir,
        "profile": profile,
        "backbone": backbone,
        "device": device,
        "log_level": log_level,
    }
    try:
        _run(_settings(config, flags), as_json=as_json)
    except _StartError as error:
        message = json.dumps({"error": str(error)}) if as_json else f"vzero serve: {error}"
        print(message, file=sys.stderr)
        raise typer.Exit(1) from None


class _StartError(Exception):
    """The server cannot start; the message is one line."""


def _settings(config: Path | None, flags: dict[str, Any]) -> Settings:
    try:
        return Settings.load(config, **flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        # An error of two settings together has no location.
        where = f"setting {name}" if name else "settings"
        raise _StartError(f"{where}: {first['msg']}") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        where = f"config {config}" if config is not None else f"profile {flags.get('profile')}"
        raise _StartError(f"{where}: {error}") from error


def _run(settings: Settings, *, as_json: bool) -> None:
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # faiss logs every instruction set it was not built for, alembic every plug-in.
    for verbose in ("faiss.loader", "alembic"):
        logging.getLogger(verbose).setLevel(logging.WARNING)
    # Errors are reported by the server; gRPC would print its own messages as well.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Imported here so that `vzero serve --help` and an invalid setting return at once.
    import uvloop

    from vzero_server.app import Ready, run
    from vzero_server.errors import DataFolderError
    from vzero_server.model.backbone import BackboneError
    from vzero_server.model.checkpoint import CheckpointError
    from vzero_server.model.weights_source import WeightsError

    def announce(ready: Ready) -> None:
        if as_json:
            typer.echo(json.dumps(asdict(ready)))
        else:
            typer.echo(f"vzero is serving on {ready.address} after {ready.seconds:.1f} s")
            if ready.admin_address is not None:
                typer.echo(f"metrics and probes on http://{ready.admin_address}")

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, announce))
    except (OSError, DataFolderError, BackboneError, CheckpointError, WeightsError) as error:
        raise _StartError(str(error)) from error
