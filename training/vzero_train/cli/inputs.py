"""What commands are given: files, lists, names; and one sentence where one cannot be used."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vzero.cli.lines import BadInput

if TYPE_CHECKING:
    from vzero_server.model.backbone import Backbone
    from vzero_server.model.checkpoint import Checkpoint
    from vzero_server.model.prompt_encoder import PromptEncoder
    from vzero_train.data.columns import Columns
    from vzero_train.data.outcomes import Outcomes
    from vzero_train.training.recipe import Recipe

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Judged:
    """An outcomes file, a head that fits the backbone, and what both read of the prompts."""

    outcomes: "Outcomes"
    checkpoint: "Checkpoint"
    columns: "Columns"


@dataclass(frozen=True)
class Setup:
    """What all evaluations are given.

    Attributes:
        backbone: Name of the backbone.
        device: Torch device, or ``auto``.
        checkpoint: File of a head; None for the shipped one.
        cache: Folder of encoded prompts.
        seed: Of all draws.
        quiet: No progress, and JSON instead of tables.
    """

    backbone: str = "packaged"
    device: str = "cpu"
    checkpoint: Path | None = None
    cache: Path | None = None
    seed: int = 0
    quiet: bool = False

    def load_backbone(self) -> "Backbone":
        """Load the backbone.

        Raises:
            BadInput: There is none of this name, or its files are no model.
        """
        from vzero_server.model.backbone import Backbone, BackboneError

        try:
            return Backbone.load(self.backbone, device=self.device)
        except BackboneError as error:
            raise BadInput(str(error)) from error

    def load_head(self, backbone: "Backbone") -> "Checkpoint":
        """Load the head.

        Raises:
            BadInput: The file cannot be used, or was made for another backbone.
        """
        from vzero_server.model.checkpoint import SHIPPED, CheckpointError, load_checkpoint

        try:
            return load_checkpoint(self.checkpoint or SHIPPED, backbone_sha256=backbone.weights)
        except CheckpointError as error:
            raise BadInput(str(error)) from error

    def encode(self, outcomes: "Outcomes", encoder: "PromptEncoder") -> "Columns":
        """Encode the prompts of outcomes, with a progress bar."""
        from vzero_train.data.columns import Columns
        from vzero_train.data.features import prompt_features

        with progress("prompts encoded", self.quiet) as report:
            vectors = prompt_features(outcomes.texts, encoder, cache=self.cache, progress=report)
        return Columns.of(vectors, encoder)

    def judged(self, path: Path) -> Judged:
        """Read outcomes, load the head, encode the prompts.

        Raises:
            BadInput: One of them cannot be used, or the head was made for another backbone.
        """
        from vzero_server.model.prompt_encoder import PromptEncoder

        outcomes = outcomes_of(path)
        backbone = self.load_backbone()
        head = self.load_head(backbone)
        encoder = PromptEncoder(backbone, head.backbone.layers)
        return Judged(outcomes, head, self.encode(outcomes, encoder))


def outcomes_of(path: Path) -> "Outcomes":
    """Read outcomes.

    Raises:
        BadInput: The file cannot be used.
    """
    from vzero_train.data.outcomes import OutcomesError, load_outcomes

    try:
        return load_outcomes(path)
    except OutcomesError as error:
        raise BadInput(str(error)) from error


def recipe_of(path: Path | None) -> "Recipe":
    """Read a recipe; by default the shipped one.

    Raises:
        BadInput: The file cannot be used.
    """
    from vzero_train.training.recipe import SHIPPED, load_recipe
    from vzero_train.training.settings import RecipeError

    try:
        return load_recipe(path or SHIPPED)
    except RecipeError as error:
        raise BadInput(str(error)) from error


def listed(given: Sequence[str] | None) -> list[str]:
    """The items of a repeatable option whose values may be lists with commas."""
    return [item.strip() for text in given or () for item in text.split(",") if item.strip()]


def chosen(given: Sequence[str] | None, known: Sequence[str], option: str) -> list[str]:
    """The items of an option that names some of what is known; all by default.

    Raises:
        BadInput: An item is unknown.
    """
    items = listed(given)
    for item in items:
        if item not in known:
            raise BadInput(f"{option}: no {item!r}; there are {', '.join(known)}")
    return items or list(known)


def numbers(given: Sequence[str] | None, default: Sequence[int], option: str) -> list[int]:
    """The items of an option as whole numbers from 0 to 2,048.

    Raises:
        BadInput: An item is none.
    """
    items = listed(given)
    for item in items:
        if not (item.isascii() and item.isdigit() and int(item) <= 2048):
            raise BadInput(f"{option}: {item!r} is no context size from 0 to 2048")
    return [int(item) for item in items] or list(default)


@contextmanager
def progress(what: str, quiet: bool) -> Iterator[Report]:
    """A bar on standard error, for a person; gives a function of what is done and its number."""
    with _bar(quiet) as bar:
        task = bar.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report


@contextmanager
def stages(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Like ``progress``, for work whose parts have names: a bar for the part that is done."""
    with _bar(quiet) as bar:
        task = bar.add_task("", total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield report


def _bar(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
    )
