"""``vzero convert``: adapters from the paper's authors' kind of file to ours, and back."""

from pathlib import Path
from typing import Annotated

import typer

from vzero.cli.errors import BadInput


def convert(
    source: Annotated[Path, typer.Argument(help="A .pt of the authors, or our .safetensors.")],
    target: Annotated[
        Path,
        typer.Argument(help="Where to write; the ending says which kind: .safetensors or .pt."),
    ],
    without_backbone: Annotated[
        bool, typer.Option(help="Leave out weights of the backbone, if the source has any.")
    ] = False,
    force: Annotated[bool, typer.Option(help="Write over a target that is there.")] = False,
) -> None:
    """Write an adapter as the other kind of file. Weights stay as they are.

    Safetensors can be read by anybody without running code, say their own shape and hold a
    fingerprint; the .pt is what the authors' code loads.
    """
    if target.suffix not in {".safetensors", ".pt"}:
        raise BadInput(f"{target}: the target must end in .safetensors or .pt")
    if not target.parent.is_dir():
        raise BadInput(f"{target}: there is no folder {target.parent}")
    if target.exists() and not force:
        raise BadInput(f"{target} is there already; --force writes over it")
    # Late: torch takes seconds.
    from vzero_server.model.checkpoint import CheckpointError
    from vzero_server.paper.adapter_file import read_adapter, save_adapter, save_released

    try:
        file = read_adapter(source)
    except CheckpointError as error:
        raise BadInput(str(error)) from error
    if without_backbone:
        file = file.alone()
    partial = target.with_name(target.name + ".partial")
    save = save_adapter if target.suffix == ".safetensors" else save_released
    save(partial, file)
    partial.replace(target)
    config = file.adapter.config
    typer.echo(
        f"{target}: {config.queries} queries of {config.width} columns, {config.heads} heads, on "
        f"states of {config.hidden}; {len(file.backbone)} tensors of a backbone"
    )
