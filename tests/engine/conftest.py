from pathlib import Path

import pytest

from tests.tiny_head import save_tiny_head
from vzero_server.model.backbone import Backbone


@pytest.fixture
def head(tmp_path: Path, tiny_backbone: Backbone) -> Path:
    path = tmp_path / "head.safetensors"
    save_tiny_head(path, tiny_backbone)
    return path
