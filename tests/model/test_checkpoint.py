import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.model.test_in_context_head import CONFIG, make_context, make_head
from vzero_server.model.checkpoint import (
    SHIPPED,
    BackboneSpec,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)

BACKBONE = BackboneSpec(name="tiny", sha256="ab" * 32, layers=(2, 4))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "head.safetensors"
    save_checkpoint(
        path, make_head(), backbone=BACKBONE, training={"data": "none"}, metrics={"auc": 0.5}
    )
    return path


def rewrite(path: Path, **changes: object) -> None:
    """The same tensors under a changed header."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["vzero"])
    header.update(changes)
    save_file(load_file(path), path, metadata={"vzero": json.dumps(header)})


@torch.inference_mode()
def test_a_head_is_restored_from_its_checkpoint(path: Path) -> None:
    checkpoint = load_checkpoint(path, backbone_sha256=BACKBONE.sha256)
    features, rewards = make_context(20)
    queries = make_context(4, seed=3)[0]
    torch.testing.assert_close(
        checkpoint.head(features, rewards, queries), make_head()(features, rewards, queries)
    )
    assert checkpoint.head.config == CONFIG
    assert checkpoint.backbone == BACKBONE
    assert checkpoint.training == {"data": "none"}
    assert checkpoint.metrics == {"auc": 0.5}
    assert not checkpoint.head.training


def test_the_fingerprint_depends_on_the_weights(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    given = save_checkpoint(other, make_head(1), backbone=BACKBONE, training={}, metrics={})
    assert given == load_checkpoint(other).fingerprint != load_checkpoint(path).fingerprint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.9])
def test_a_truncated_file_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(path)


def test_altered_weights_are_refused(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="fingerprint"):
        load_checkpoint(path)


def test_another_backbone_is_refused(path: Path) -> None:
    with pytest.raises(CheckpointError, match="made for backbone tiny"):
        load_checkpoint(path, backbone_sha256="cd" * 32)


def test_another_file_is_refused(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="without a vzero header"):
        load_checkpoint(path)


def test_another_architecture_is_refused(path: Path) -> None:
    rewrite(path, architecture={"name": "other"})
    with pytest.raises(CheckpointError, match="not a checkpoint of an icl head"):
        load_checkpoint(path)


def test_an_incomplete_header_is_refused(path: Path) -> None:
    rewrite(path, backbone={})
    with pytest.raises(CheckpointError, match="incomplete"):
        load_checkpoint(path)


def test_wrong_shapes_are_named(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        architecture = json.loads(file.metadata()["vzero"])["architecture"]
    rewrite(path, architecture=architecture | {"skills": 5})
    with pytest.raises(CheckpointError, match=r"tensor difficulty has shape \[7\]"):
        load_checkpoint(path)


@torch.inference_mode()
def test_the_shipped_weights_fit_their_limits() -> None:
    checkpoint = load_checkpoint(SHIPPED)
    assert SHIPPED.stat().st_size < 40e6
    config = checkpoint.head.config
    rows = checkpoint.head.rows(torch.randn(1, 256, config.features))
    context = checkpoint.head.encode(rows, torch.rand(1, 256))
    assert context.nbytes < 4e6
    assert {"data", "licences"} <= checkpoint.training.keys()
