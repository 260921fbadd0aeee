"""The recipe of a connector's training."""

from dataclasses import dataclass
from pathlib import Path

from research.connectors.objectives import Objective
from vzero_train.training.settings import RecipeError, checked, read_toml, types_of

RECIPE = Path(__file__).parent / "connector-minilm.toml"
"""The recipe of the tables in ``research/results``."""


@dataclass(frozen=True)
class ConnectorConfig:
    """How a connector is trained.

    Attributes:
        connector: A name of ``CONNECTORS``.
        queries: Static queries, K.
        width: Columns of a query, e.
        heads: Attention heads.
        objective: The loss (Table 5).
        tune_head: Whether the head is trained along (Table 6).
        tune_connector: Whether the connector is; one of both must be for training to happen.
        steps: Optimiser steps.
        contexts: Contexts per step, all of one source.
        rows: Rows of a context, N.
        asked: Queries per context, half of them successes.
        pretraining: Steps the head is taught before.
        rate: Peak learning rate.
        decay: Weight decay of matrices.
        warmup: Share of the steps until the peak.
        clip: Largest norm of the gradient.
        check_every: Steps between two checks on the validation questions.
        patience: Checks without a new best after which training ends; 0 for never.
        seed: Of weights and draws.
    """

    connector: str = "residual-dynamic-query"
    queries: int = 32
    width: int = 6
    heads: int = 3
    objective: Objective = Objective.COMPOSITE
    tune_head: bool = False
    tune_connector: bool = True
    steps: int = 400
    contexts: int = 2
    rows: int = 128
    asked: int = 32
    pretraining: int = 200
    rate: float = 1e-3
    decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    check_every: int = 25
    patience: int = 0
    seed: int = 0


def load_connector_config(path: Path = RECIPE) -> ConnectorConfig:
    """Read a recipe from TOML.

    Raises:
        RecipeError: The file is missing or no TOML, or holds a setting that does not exist or is
            of another type.
    """
    given = read_toml(path)
    try:
        objective = Objective(given.pop("objective", Objective.COMPOSITE))
    except ValueError as error:
        raise RecipeError(f"{path}: {error}") from error
    return ConnectorConfig(objective=objective, **checked(path, given, types_of(ConnectorConfig)))
