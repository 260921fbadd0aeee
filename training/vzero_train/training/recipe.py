"""A recipe: everything that decides what a trained head is, in one file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import PositiveInt

from vzero_server.model.head_config import HeadConfig
from vzero_server.model.in_context_head import InContextHead
from vzero_server.model.prompt_encoder import LAYERS
from vzero_server.model.text_columns import NAMES
from vzero_server.types import AnyFloatArray
from vzero_train.data.outcomes import Outcomes, pools
from vzero_train.training.projection import feature_groups, fit_projection
from vzero_train.training.settings import checked, read_toml, types_of
from vzero_train.training.trainer import Trainer, TrainerConfig

_TABLE = dict[str, Any]
_RECIPE = {
    "components": PositiveInt,
    "head": _TABLE,
    "trainer": _TABLE,
    "folds": dict[str, list[str]],
    "provenance": _TABLE,
}
_HEAD = dict.fromkeys(("skills", "traits", "hidden", "experts"), PositiveInt)

SHIPPED = Path(__file__).parent / "recipes" / "icl-minilm.toml"
"""The recipe of the shipped weights."""


@dataclass(frozen=True)
class Recipe:
    """The architecture of a head and its training.

    Attributes:
        components: Principal components kept of each layer mean.
        head: Sizes of the head: skills, traits, hidden, experts.
        trainer: Settings of the training.
        folds: Benchmarks that are held out together, by name of the fold.
        provenance: Sources and licences of the data, recorded in the checkpoint.
    """

    components: int = 128
    head: Mapping[str, int] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    folds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def held_out(self, fold: str, outcomes: Outcomes) -> list[str]:
        """Return the benchmarks of ``outcomes`` that a fold holds out."""
        names = np.unique(outcomes.benchmark)
        return [str(name) for name in names if _any_matches(str(name), self.folds[fold])]


def load_recipe(path: Path = SHIPPED) -> Recipe:
    """Read a recipe from TOML.

    Raises:
        RecipeError: The file is missing or not TOML, or has a setting that is unknown or of
            another type.
    """
    read = checked(path, read_toml(path), _RECIPE)
    trainer = checked(path, read.get("trainer", {}), types_of(TrainerConfig), "trainer")
    return Recipe(
        components=read.get("components", Recipe.components),
        head=checked(path, read.get("head", {}), _HEAD, "head"),
        trainer=TrainerConfig(**trainer),
        folds={name: tuple(listed) for name, listed in read.get("folds", {}).items()},
        provenance=read.get("provenance", {}),
    )


def train_head(
    recipe: Recipe,
    outcomes: Outcomes,
    features: AnyFloatArray,
    *,
    device: str = "cpu",
    state: Path | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> InContextHead:
    """Train a head from outcomes and the features of their prompts.

    Args:
        recipe: The recipe.
        outcomes: Training outcomes.
        features: Features of ``outcomes.texts``, ``[texts, columns]``, layer means first.
        device: Torch device.
        state: File to resume from and to save to.
        on_step: Called after every step with the step and its loss.
    """
    torch.manual_seed(recipe.trainer.seed)
    hidden = (features.shape[1] - len(NAMES)) // len(LAYERS)
    groups = feature_groups(LAYERS, hidden, len(NAMES), recipe.components)
    head = InContextHead(HeadConfig(groups, **recipe.head))
    fit_projection(head, features[np.unique(outcomes.prompt)])
    trainer = Trainer(head, pools(outcomes), features, recipe.trainer, device=device)
    trainer.train(state=state, on_step=on_step)
    return head.cpu()


def _any_matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )
