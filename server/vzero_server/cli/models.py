"""``vzero models``: fetches, lists and verifies model weights."""

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
    """What the command does with each source."""

    PULL = "pull"
    LIST = "list"
    VERIFY = "verify"


@dataclass(frozen=True)
class SourceState:
    """The state of the weights of one source.

    Attributes:
        setting: The setting that names the source; empty for one from the command line.
        source: The source as it was given.
        state: ``present``, ``missing``, ``verified``, or an error.
        where: Path of the weights, if they are present.
    """

    setting: str
    source: str
    state: str
    where: str = ""


def models(
    action: Annotated[
        Action,
        typer.Argument(
            help="pull: download missing weights; list: show which are present; "
            "verify: check their checksums."
        ),
    ],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE]...",
            help="owner/name or owner/name/file, optionally with @REVISION and #SHA256; "
            "default: the sources of the profile.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="Profile whose sources are used: 'compact', 'paper' or a TOML file.")
    ] = "paper",
    models_dir: Annotated[
        Path | None, typer.Option(help="Folder of the weights; default: ~/.cache/vzero/models.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
) -> None:
    """Fetch, list or verify model weights.

    `vzero serve` never downloads the weights of a profile. docs/paper-profile.md lists the
    licences. A gated repository needs a token in HF_TOKEN.
    """
    try:
        settings = Settings.load(None, profile=profile, models_dir=models_dir)
    except (ValidationError, ValueError, OSError) as error:
        raise BadInput(f"profile {profile}: {error}") from error
    failed = False
    for setting, name in _named_sources(settings, sources):
        try:
            state = _apply(action, setting, name, settings.models_dir)
            failed = failed or state.state == "missing"
        except WeightsError as error:
            state, failed = SourceState(setting, name, str(error)), True
        if as_json:
            typer.echo(json.dumps(asdict(state)))
        else:
            typer.echo(f"{state.setting:8} {state.source}: {state.state} {state.where}".rstrip())
    if failed:
        raise typer.Exit(1)


def _named_sources(settings: Settings, sources: list[str] | None) -> list[tuple[str, str]]:
    """Return settings and their sources, without those that the package contains."""
    if sources:
        return [("", source) for source in sources]
    named = {
        "backbone": settings.backbone,
        "adapter": settings.adapter,
        "tabpfn": settings.tabpfn,
    }
    return [pair for pair in named.items() if pair[1] not in {"none", "packaged"}]


def _apply(action: Action, setting: str, name: str, folder: Path) -> SourceState:
    """Apply the action to one source and return its state.

    Raises:
        WeightsError: The weights are missing, altered, or cannot be downloaded.
    """
    source = Source.parse(name)
    if action is Action.LIST:
        path = source.local or source.folder(folder) / source.path
        if not path.exists():
            return SourceState(setting, source.text, "missing")
        return SourceState(setting, source.text, "present", str(path))
    if action is Action.PULL and source.local is None:
        pull(source, folder)
    path = locate(source, folder)
    # A local file has no checksum unless the source gives one.
    has_checksum = source.local is None or source.checksum
    state = "verified" if has_checksum else "present, no checksum to verify it by"
    return SourceState(setting, name, state, str(path))
