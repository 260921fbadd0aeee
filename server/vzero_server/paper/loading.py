"""Loads the paper's encoder: a backbone with a Residual Query Adapter on its token states."""

from pathlib import Path

from vzero_server.model.device import resolve_device
from vzero_server.model.dtypes import resolve_dtype
from vzero_server.model.loading import Models
from vzero_server.model.weights_folder import locate
from vzero_server.model.weights_source import Source
from vzero_server.paper.adapter_encoder import AdapterEncoder
from vzero_server.paper.adapter_file import read_adapter
from vzero_server.paper.token_backbone import TokenBackbone
from vzero_server.settings import Settings


def located(name: str, settings: Settings) -> Path:
    """Return the local path of weights that a setting names.

    Raises:
        WeightsError: They are missing or altered.
    """
    return locate(Source.parse(name), settings.models_dir)


def load_paper_models(settings: Settings) -> Models:
    """Load the encoder of the paper's profile.

    Raises:
        BackboneError: The backbone cannot be loaded.
        CheckpointError: The adapter cannot be used.
        WeightsError: Weights are missing or altered.
    """
    device = resolve_device(settings.device)
    # Every missing file is reported before anything large is read.
    folder, adapter = located(settings.backbone, settings), located(settings.adapter, settings)
    if settings.tabpfn != "none":
        located(settings.tabpfn, settings)
    adapter_file = read_adapter(adapter)
    backbone = TokenBackbone.load(
        folder,
        device=device,
        dtype=resolve_dtype(settings.dtype, device),
        weights=adapter_file.backbone,
    )
    return Models(AdapterEncoder(backbone, adapter_file, device=device), device)
