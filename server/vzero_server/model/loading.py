"""Loads the compact models: the backbone, and the in-context head that fits it."""

import logging
import os
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import SHIPPED, Checkpoint, load_checkpoint
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.types import Features

logger = logging.getLogger(__name__)


class FeatureEncoder(Protocol):
    """Turns prompts into feature vectors, in two steps; see ``PromptEncoder``.

    Attributes:
        pooled: Leading columns that are the embedding.
        columns: Columns in all.
        fingerprint: Hex digest of everything that determines a vector.
        packs: Whether batches need no padding.
    """

    pooled: int
    columns: int
    fingerprint: str

    @property
    def packs(self) -> bool:
        """See the class."""

    def tokenize(self, prompts: Sequence[str]) -> Sequence[Sized]:
        """Tokenise prompts; thread-safe."""

    def embed(self, prompts: Sequence[Any]) -> Features:
        """Return the vectors of one batch of tokenised prompts, ``[len(prompts), columns]``."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a server.

    Attributes:
        encoder: Turns prompts into feature vectors.
        device: Torch device.
        checkpoint: The in-context head; None without one.
    """

    encoder: FeatureEncoder
    device: str
    checkpoint: Checkpoint | None = None


def default_thread_count() -> int:
    """Return the threads of the models on a CPU: one per core, less one for the event loop."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def load_compact_models(
    *, backbone: str, head: str, device: str, dtype: str, runtime: str
) -> Models:
    """Load a backbone and the in-context head that goes with it.

    Args:
        backbone: Name of the backbone, as in the settings.
        head: Name of the head, as in the settings.
        device: Torch device.
        dtype: Number format of the backbone.
        runtime: Runs the backbone.

    Raises:
        BackboneError: The backbone cannot be loaded.
        CheckpointError: The head cannot be used.
        WeightsError: Weights are missing or altered.
    """
    loaded = Backbone.load(backbone, device=device, dtype=dtype, runtime=runtime)
    checkpoint = _checkpoint(head, loaded)
    layers = checkpoint.backbone.layers if checkpoint else ()
    return Models(PromptEncoder(loaded, layers), device, checkpoint)


def _checkpoint(name: str, backbone: Backbone) -> Checkpoint | None:
    """The head of this name; the packaged one only with the backbone it was trained for."""
    if name == "none":
        return None
    if name != "packaged":
        return load_checkpoint(Path(name), backbone_sha256=backbone.weights)
    shipped = load_checkpoint(SHIPPED)
    if shipped.backbone.sha256 == backbone.weights:
        return shipped
    logger.warning(
        "backbone %s: the packaged head was trained for %s and is not loaded",
        backbone.name,
        shipped.backbone.name,
    )
    return None
