"""Loads the models a server answers with."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from vzero_server.config import Settings
from vzero_server.engine.estimators.in_context import InContext
from vzero_server.engine.estimators.selection import Selection
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import SHIPPED, Checkpoint, load_checkpoint
from vzero_server.model.prompt_encoder import PromptEncoder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Models:
    """What a server answers with: the encoder of prompts, the head if it has one, and where."""

    encoder: PromptEncoder
    icl: InContext | None
    device: str


def threads(settings: Settings) -> int:
    """Threads of the models on a CPU: all cores but the one the event loop needs."""
    return settings.threads or max(1, len(os.sched_getaffinity(0)) - 1)


def load_models(settings: Settings) -> Models:
    """Load what the settings name.

    Raises:
        BackboneError: The backbone cannot be loaded.
        CheckpointError: The head cannot be used.
    """
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = Backbone.load(
        settings.backbone, device=device, dtype=settings.dtype, runtime=settings.runtime
    )
    checkpoint = _head(settings.head, backbone)
    if checkpoint is None:
        return Models(PromptEncoder(backbone), None, device)
    icl = InContext(
        checkpoint.head,
        rows=settings.context_rows,
        selection=Selection(settings.context_selection),
        min_rows=settings.min_context_rows,
        device=device,
    )
    return Models(PromptEncoder(backbone, checkpoint.backbone.layers), icl, device)


def _head(name: str, backbone: Backbone) -> Checkpoint | None:
    """The head of that name; a packaged one only with the backbone it was made for."""
    if name == "none":
        return None
    if name != "packaged":
        return load_checkpoint(Path(name), backbone_sha256=backbone.weights)
    shipped = load_checkpoint(SHIPPED)
    if shipped.backbone.sha256 == backbone.weights:
        return shipped
    log.warning(
        "backbone %s: the packaged head was made for %s; answering with KNN",
        backbone.name,
        shipped.backbone.name,
    )
    return None
