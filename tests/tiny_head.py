"""An in-context head of random weights for the small model."""

from pathlib import Path

import torch

from tests.tiny_model import DIMENSION
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import BackboneSpec, save_checkpoint
from vzero_server.model.head_config import Group, HeadConfig
from vzero_server.model.in_context_head import InContextHead
from vzero_server.model.text_columns import NAMES


def tiny_head() -> InContextHead:
    """A head that uses one layer of the small model and the columns of the text."""
    torch.manual_seed(0)
    groups = (Group("layer1", DIMENSION, 8), Group("text", len(NAMES), len(NAMES)))
    return InContextHead(HeadConfig(groups, skills=4, traits=4, hidden=8, experts=4)).eval()


def save_tiny_head(path: Path, backbone: Backbone) -> None:
    """Save the head as a checkpoint that names the small model."""
    spec = BackboneSpec(name="tiny", sha256=backbone.weights, layers=(1,))
    save_checkpoint(path, tiny_head(), backbone=spec, training={}, metrics={})
