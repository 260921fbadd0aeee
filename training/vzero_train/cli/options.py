"""Options that several commands share, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

Backbone = Annotated[
    str,
    typer.Option(help="'packaged' (MiniLM), a folder, or a hub name with optional @revision."),
]
Cache = Annotated[Path | None, typer.Option(help="Folder that keeps encoded prompts between runs.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Weights of the head; the shipped ones by default.")
]
Device = Annotated[str, typer.Option(help="Torch device, or auto.")]
Estimators = Annotated[
    list[str] | None,
    typer.Option(help="Estimators, separated by commas; all by default.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Seed = Annotated[int, typer.Option(help="Seed of all random draws.", min=0)]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        help="Context sizes, separated by commas; 32,64,128,256,512,1024 by default.",
        show_default=False,
    ),
]
Tensorboard = Annotated[Path | None, typer.Option(help="Folder for TensorBoard event files.")]

DEFAULT_BACKBONE = "packaged"
DEFAULT_DEVICE = "cpu"
