"""Loads the models a server answers with."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from vzero_server.engine.estimators.icl import InContext
from vzero_server.engine.estimators.selection import Selection
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import SHIPPED, Checkpoint, load_checkpoint
from vzero_server.model.dtypes import DTYPES, resolve_dtype
from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.model.weights_folder import locate
from vzero_server.model.weights_source import Source
from vzero_server.paper.adapter_encoder import AdapterEncoder
from vzero_server.paper.adapter_file import read_adapter
from vzero_server.paper.estimator import TabPFN
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import read_tabpfn
from vzero_server.paper.token_backbone import TokenBackbone
from vzero_server.settings import Settings
from vzero_server.types import Features

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Models:
    """What a server answers with: the encoder of prompts, the head if it has one, and where."""

    encoder: PromptEncoder | AdapterEncoder
    icl: InContext | None
    device: str
    tabpfn: TabPFN | None = None

    @property
    def reader(self) -> Callable[[Features], Features] | None:
        """What windows keep of prompts for the head; None without one."""
        head = self.icl or self.tabpfn
        return head.rows if head else None


def threads(settings: Settings) -> int:
    """Threads of the models on a CPU: all cores but the one the event loop needs."""
    return settings.threads or max(1, len(os.sched_getaffinity(0)) - 1)


def device_of(settings: Settings) -> str:
    """Return the device that runs the models."""
    if settings.device != "auto":
        return settings.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_models(settings: Settings) -> Models:
    """Load what the settings name.

    Raises:
        BackboneError: The backbone cannot be loaded.
        CheckpointError: The head or the adapter cannot be used.
        WeightsError: Weights are missing or altered.
    """
    device = device_of(settings)
    if settings.adapter != "none":
        return _with_adapter(settings, device)
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


def _with_adapter(settings: Settings, device: str) -> Models:
    """The paper's encoder and, if the settings name it, the paper's head."""

    def found(name: str) -> Path:
        return locate(Source.parse(name), settings.models_dir)

    # All that is missing is missed before anything large is read.
    folder, adapter_path = found(settings.backbone), found(settings.adapter)
    head_path = found(settings.tabpfn) if settings.tabpfn != "none" else None
    file = read_adapter(adapter_path)
    backbone = TokenBackbone.load(
        folder,
        device=device,
        dtype=resolve_dtype(settings.dtype, device),
        weights=file.backbone,
    )
    encoder = AdapterEncoder(backbone, file, device=device)
    if head_path is None:
        return Models(encoder, None, device)
    network = read_tabpfn(head_path)
    if not network.commercial:
        logger.warning(
            "the weights of %s are under %s: not for commercial use without one of its own",
            head_path.name,
            network.licence,
        )
    head = TabPFNHead(
        network,
        columns=encoder.features,
        members=settings.tabpfn_members,
        device=device,
        compute=DTYPES[settings.tabpfn_dtype],
        store=DTYPES[settings.tabpfn_cache_dtype],
    )
    estimator = TabPFN(
        head,
        rows=settings.context_rows,
        selection=Selection(settings.context_selection),
        neighbours=settings.knn_k,
    )
    return Models(encoder, None, device, estimator)


def _head(name: str, backbone: Backbone) -> Checkpoint | None:
    """The head of that name; a packaged one only with the backbone it was made for."""
    if name == "none":
        return None
    if name != "packaged":
        return load_checkpoint(Path(name), backbone_sha256=backbone.weights)
    shipped = load_checkpoint(SHIPPED)
    if shipped.backbone.sha256 == backbone.weights:
        return shipped
    logger.warning(
        "backbone %s: the packaged head was made for %s; answering with KNN",
        backbone.name,
        shipped.backbone.name,
    )
    return None
