"""``vzero models``: fetch, list and verify the weights a profile names."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from vzero.cli.errors import BadInput
from vzero_server.model.hub import pull
from vzero_server.model.weights_folder import locate
from vzero_server.model.weights_source import Source, WeightsError
from vzero_server.settings import Settings


class Action(StrEnum):
    """What to do."""

    PULL = "pull"
    LIST = "list"
    VERIFY = "verify"


@dataclass(frozen=True)
class Line:
    """What is said of one source: a setting, its value, and whether the weights are there."""

    setting: str
    source: str
    state: str
    where: str = ""


def models(
    action: Annotated[
        Action,
        typer.Argument(help="pull: fetch what is missing; list: what is there; verify: checksums."),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="owner/name or owner/name/file, then @REVISION and #SHA256 if wanted; "
            "default: those of the profile.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="'compact', 'paper' or a TOML file, whose weights are meant.")
    ] = "paper",
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of weights [~/.cache/vzero/models].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Fetch, list or verify weights; `vzero serve` itself never fetches those of a profile.

    Licences stand in docs/paper-profile.md. A gated repository wants a token in HF_TOKEN.
    """
    try:
        settings = Settings.load(None, profile=profile, models_dir=models_dir)
    except (ValidationError, ValueError, OSError) as error:
        raise BadInput(f"profile {profile}: {error}") from error
    folder, missing = settings.models_dir, False
    for setting, name in _named(settings, sources):
        try:
            source = Source.parse(name)
            if action is Action.PULL and source.local is None:
                pull(source, folder)
            if action is Action.LIST:
                line = _seen(setting, source, folder)
            else:
                path = locate(source, folder)
                # A path of this machine is what somebody put there, whatever that is.
                known = source.local is None or source.checksum
                state = "verified" if known else "present, no checksum to verify it by"
                line = Line(setting, name, state, str(path))
        except WeightsError as error:
            line, missing = Line(setting, name, str(error)), True
        missing = missing or line.state == "missing"
        if as_json:
            typer.echo(json.dumps(asdict(line)))
        else:
            typer.echo(f"{line.setting:8} {line.source}: {line.state} {line.where}".rstrip())
    if missing:
        raise typer.Exit(1)


def _named(settings: Settings, sources: list[str] | None) -> list[tuple[str, str]]:
    """Settings and their sources; of packaged parts there is nothing to say."""
    if sources:
        return [("", source) for source in sources]
    named = {
        "backbone": settings.backbone,
        "adapter": settings.adapter,
        "tabpfn": settings.tabpfn,
    }
    return [pair for pair in named.items() if pair[1] not in {"none", "packaged"}]


def _seen(setting: str, source: Source, folder: Path) -> Line:
    """Whether it is there, without reading it."""
    path = source.local or source.folder(folder) / source.path
    state = "present" if path.exists() else "missing"
    return Line(setting, source.text, state, str(path) if path.exists() else "")
