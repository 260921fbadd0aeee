"""Training a head and keeping it: shared by ``vzero train`` and the evaluation of folds."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vzero.cli.errors import BadInput
from vzero_train.cli.progress import progress
from vzero_train.cli.setup import Setup

if TYPE_CHECKING:
    from vzero_server.model.backbone import Backbone
    from vzero_server.model.checkpoint import Checkpoint
    from vzero_train.data.columns import Columns
    from vzero_train.data.outcomes import Outcomes
    from vzero_train.training.recipe import Recipe


def state_of(path: Path) -> Path:
    """Return the file of the unfinished training of a checkpoint."""
    return path.with_suffix(".state.pt")


@contextmanager
def followed(
    what: str, steps: int, quiet: bool, tensorboard: Path | None
) -> Iterator[Callable[[int, float], None]]:
    """Yield the function that a training calls after every step; it reports progress and loss.

    Args:
        what: Text beside the progress bar.
        steps: Steps of the whole training.
        quiet: Show no progress bar.
        tensorboard: Folder for TensorBoard event files; None writes none.
    """
    with ExitStack() as stack:
        report = stack.enter_context(progress(what, quiet))
        scalars = None
        if tensorboard is not None:
            from vzero_train.training.scalars import Scalars

            scalars = stack.enter_context(Scalars(tensorboard))

        def on_step(step: int, loss: float) -> None:
            report(step, steps)
            if scalars is not None:
                scalars.loss(step, loss)

        yield on_step


def check_state(path: Path, resume: bool) -> None:
    """Check that an interrupted training is only continued on request.

    Raises:
        BadInput: There is a saved state, and ``resume`` is false.
    """
    state = state_of(path)
    if state.is_file() and not resume:
        raise BadInput(
            f"{state} is the state of an interrupted training: add --resume, or remove the file"
        )


def train(
    path: Path,
    recipe: "Recipe",
    outcomes: "Outcomes",
    columns: "Columns",
    backbone: "Backbone",
    setup: Setup,
    *,
    fold: str | None = None,
    tensorboard: Path | None = None,
) -> str:
    """Train a head or continue its training, write its checkpoint and return the fingerprint.

    Args:
        path: Checkpoint to write. A state beside it is resumed, and removed when the checkpoint
            is written.
        recipe: How to train; its folds are ignored.
        outcomes: Training outcomes.
        columns: Features of all prompts.
        backbone: The encoder of the prompts.
        setup: Device, and whether to show progress.
        fold: Fold that ``outcomes`` lacks; recorded in the checkpoint.
        tensorboard: Folder for TensorBoard event files; None writes none.

    Raises:
        BadInput: No pool of outcomes is large enough, or the state belongs to another recipe.
    """
    from vzero_server.model.checkpoint import BackboneSpec, save_checkpoint
    from vzero_server.model.device import resolve_device
    from vzero_server.model.prompt_encoder import LAYERS
    from vzero_train.training.recipe import train_head

    device = resolve_device(setup.device)
    state = state_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    what = "steps" if fold is None else f"steps without {fold}"
    with followed(what, recipe.trainer.steps, setup.quiet, tensorboard) as on_step:
        try:
            head = train_head(
                recipe, outcomes, columns.features, device=device, state=state, on_step=on_step
            )
        except ValueError as error:
            raise BadInput(f"{path}: {error}") from error
    fingerprint = save_checkpoint(
        path,
        head,
        backbone=BackboneSpec(_name(backbone), backbone.weights, LAYERS),
        training={
            **_provenance(recipe, outcomes),
            "outcomes": len(outcomes),
            "policies": len(np.unique(outcomes.policy)),
            "prompts": len(np.unique(outcomes.prompt)),
            "recipe": asdict(recipe.trainer),
            **({"left_out": fold} if fold else {}),
        },
        metrics={},
    )
    state.unlink(missing_ok=True)
    return fingerprint


def check(path: Path, checkpoint: "Checkpoint", recipe: "Recipe", outcomes: "Outcomes") -> None:
    """Check that a head was trained with this recipe on as many outcomes.

    Raises:
        BadInput: The recipe or the number of outcomes differs.
    """
    training = checkpoint.training
    same_recipe = training.get("recipe") == asdict(recipe.trainer)
    if not same_recipe or training.get("outcomes") != len(outcomes):
        raise BadInput(f"{path} is of another recipe or other outcomes: remove it, or change --out")


def seeded(recipe: "Recipe", seed: int | None) -> "Recipe":
    """Return the recipe with this seed; the recipe itself for None."""
    if seed is None:
        return recipe
    return replace(recipe, trainer=replace(recipe.trainer, seed=seed))


def fold_of(recipe: "Recipe", name: str, outcomes: "Outcomes") -> list[str]:
    """Return the benchmarks of a fold.

    Raises:
        BadInput: The recipe has no such fold, or the outcomes have none of its benchmarks.
    """
    if name not in recipe.folds:
        known = ", ".join(recipe.folds) or "none"
        raise BadInput(f"--fold: no {name!r} in the recipe; there are {known}")
    benchmarks = recipe.held_out(name, outcomes)
    if not benchmarks:
        raise BadInput(f"--fold: the outcomes hold no benchmark of {name!r}")
    return benchmarks


def _provenance(recipe: "Recipe", outcomes: "Outcomes") -> dict[str, Any]:
    """Return sources and licences of the recipe that apply to these outcomes."""
    sources = [str(name) for name in np.unique(outcomes.source) if name]
    licences = recipe.provenance.get("licences", {})
    known = {name: licences[name] for name in sources if name in licences}
    return {**recipe.provenance, "data": sources, "licences": known}


def _name(backbone: "Backbone") -> str:
    from vzero_server.model.backbone import PACKAGED

    return "all-MiniLM-L6-v2" if backbone.name == PACKAGED else backbone.name
