"""``vzero serve``: settings from the command line, errors in one line."""

import asyncio
import logging
import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from vzero_server.config import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one [50051].")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the durable log [vzero-data].")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="'packaged' (MiniLM), a folder, or a hub name[@revision]."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Torch device, or auto.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file; every setting may stand in it.")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error [info].")
    ] = None,
) -> None:
    """Serve values until SIGTERM or Ctrl-C.

    Every setting can also be given as an environment variable VZERO_<NAME>; flags win over
    the environment, and the environment over the file. docs/configuration.md lists them.
    """
    try:
        settings = Settings.load(
            config,
            host=host,
            port=port,
            data_dir=data_dir,
            backbone=backbone,
            device=device,
            log_level=log_level,
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        _fail(f"setting {name}: {first['msg']}")
    except (OSError, tomllib.TOMLDecodeError) as error:
        _fail(f"config {config}: {error}")
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # faiss reports every instruction set it was not built for, alembic every plug-in.
    for chatty in ("faiss.loader", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    _run(settings)


def _run(settings: Settings) -> None:
    # What goes wrong is told in our words; gRPC would add its own.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Late, so that `vzero serve --help` and a wrong setting answer at once.
    import uvloop

    from vzero_server.app import Ready, run
    from vzero_server.contexts.errors import DataFolderError
    from vzero_server.model.backbone import BackboneError

    def announce(ready: Ready) -> None:
        typer.echo(f"vzero is serving on {ready.address} after {ready.seconds:.1f} s")

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, announce))
    except (OSError, DataFolderError, BackboneError) as error:
        _fail(str(error))


def _fail(message: str) -> None:
    print(f"vzero serve: {message}", file=sys.stderr)
    raise typer.Exit(1)
