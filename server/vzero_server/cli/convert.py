"""``vzero convert``: converts adapters between the authors' file format and safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from vzero.cli.errors import BadInput


def convert(
    source: Annotated[
        Path, typer.Argument(help="A .pt file of the authors, or a .safetensors file.")
    ],
    target: Annotated[
        Path,
        typer.Argument(help="File to write; its suffix, .safetensors or .pt, sets the format."),
    ],
    without_backbone: Annotated[
        bool, typer.Option(help="Omit the weights of the backbone, if the source has any.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Overwrite the target if it exists.")] = False,
) -> None:
    """Convert an adapter to the other file format. The weights do not change.

    A safetensors file can be read without running code, contains its shape and has a
    fingerprint. The authors' code loads a .pt file.
    """
    if target.suffix not in {".safetensors", ".pt"}:
        raise BadInput(f"{target}: the target must end in .safetensors or .pt")
    if not target.parent.is_dir():
        raise BadInput(f"{target}: the folder {target.parent} does not exist")
    if target.exists() and not force:
        raise BadInput(f"{target} exists already; use --force to overwrite it")
    # Imported here because torch takes seconds to import.
    from vzero_server.model.checkpoint import CheckpointError
    from vzero_server.paper.conversion import convert_adapter

    try:
        file = convert_adapter(source, target, without_backbone=without_backbone)
    except CheckpointError as error:
        raise BadInput(str(error)) from error
    config = file.adapter.config
    typer.echo(
        f"{target}: {config.queries} queries of {config.width} columns, {config.heads} heads, on "
        f"states of {config.hidden}; {len(file.backbone)} tensors of a backbone"
    )
