"""Files of adapters: of the paper's authors, and of vzero."""

from pathlib import Path

import pytest
import torch

from tests.paper.test_tabpfn_file import MaliciousPickle
from tests.tiny_qwen import ADAPTER, save_released_file, save_tiny_qwen, trained_adapter
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.adapter import RELEASED
from vzero_server.paper.adapter_file import (
    AdapterFile,
    read_adapter,
    save_adapter,
    save_released,
)


def equal(file: AdapterFile, other: AdapterFile) -> bool:
    pairs = [
        (file.adapter.state_dict(), other.adapter.state_dict()),
        (file.backbone, other.backbone),
    ]
    return file.fingerprint == other.fingerprint and all(
        left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
        for left, right in pairs
    )


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_released_files_of_both_layouts_are_read_with_and_without_prefix(
    tmp_path: Path, bare: bool, prefix: str
) -> None:
    adapter = trained_adapter()
    plain = read_adapter(save_released_file(tmp_path / "plain.pt", adapter))
    read = read_adapter(save_released_file(tmp_path / "v0.pt", adapter, prefix=prefix, bare=bare))
    assert equal(read, plain)
    assert read.adapter.config == ADAPTER
    assert not read.adapter.training
    assert all(
        torch.equal(v, adapter.state_dict()[k]) for k, v in read.adapter.state_dict().items()
    )


def test_the_released_configuration_is_read_from_the_shapes(tmp_path: Path) -> None:
    read = read_adapter(save_released_file(tmp_path / "v0.pt", trained_adapter(RELEASED)))
    assert read.adapter.config == RELEASED
    assert read.adapter.features == 1008


def test_the_number_of_attention_heads_is_read_from_the_training_arguments(tmp_path: Path) -> None:
    path = save_released_file(tmp_path / "v0.pt", args={"num_heads": 2, "other": None})
    assert read_adapter(path).adapter.config.heads == 2


@pytest.mark.parametrize("with_backbone", [False, True])
def test_converting_to_safetensors_and_back_changes_nothing(
    tmp_path: Path, with_backbone: bool
) -> None:
    backbone = save_tiny_qwen(tmp_path / "qwen") if with_backbone else None
    released = read_adapter(save_released_file(tmp_path / "v0.pt", backbone=backbone))
    assert bool(released.backbone) == with_backbone
    save_adapter(tmp_path / "v0.safetensors", released)
    converted = read_adapter(tmp_path / "v0.safetensors")
    assert equal(converted, released)
    save_released(tmp_path / "again.pt", converted)
    assert equal(read_adapter(tmp_path / "again.pt"), released)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_in_half_precision_is_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    """It computes in float32, and the fingerprint is that of the float32 weights."""
    released = read_adapter(save_released_file(tmp_path / "v0.pt", trained_adapter().to(dtype)))
    save_adapter(tmp_path / "v0.safetensors", released)
    assert equal(read_adapter(tmp_path / "v0.safetensors"), released)


def test_weights_that_are_nan_are_rejected(tmp_path: Path) -> None:
    adapter = trained_adapter()
    with torch.no_grad():
        adapter.proj_kv.weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"adapter_layer.proj_kv.weight contains NaN"):
        read_adapter(save_released_file(tmp_path / "v0.pt", adapter))


def test_files_that_are_not_adapters_are_named_in_the_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    with pytest.raises(CheckpointError, match=r"missing.pt: no such file"):
        read_adapter(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match=r"missing.safetensors: no such file"):
        read_adapter(tmp_path / "missing.safetensors")
    save_released_file(path, further=MaliciousPickle(tmp_path / "touched"))
    with pytest.raises(CheckpointError, match="could run code and is refused"):
        read_adapter(path)
    assert not (tmp_path / "touched").exists()
    torch.save({"model_state_dict": {"adapter_layer.static_queries": torch.zeros(3)}}, path)
    with pytest.raises(CheckpointError, match="not an adapter of the paper"):
        read_adapter(path)
    torch.save({"model_state_dict": 3}, path)
    with pytest.raises(CheckpointError, match="does not contain tensors by name"):
        read_adapter(path)
    tensors = torch.load(save_released_file(path), weights_only=True)["model_state_dict"]
    del tensors["adapter_layer.mha.in_proj_bias"]
    torch.save({"model_state_dict": tensors}, path)
    with pytest.raises(CheckpointError, match=r"other tensors: .*mha.in_proj_bias"):
        read_adapter(path)
    save_released_file(path, args={"num_heads": 4})
    with pytest.raises(CheckpointError, match="4 heads do not divide"):
        read_adapter(path)
    for heads in ("3", 3.0):
        save_released_file(path, args={"num_heads": heads})
        with pytest.raises(CheckpointError, match="heads must be a whole number from 1"):
            read_adapter(path)


def test_an_altered_or_truncated_safetensors_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "v0.safetensors"
    save_adapter(path, read_adapter(save_released_file(tmp_path / "v0.pt")))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="altered: the weights do not match"):
        read_adapter(path)
    path.write_bytes(content[:200])
    with pytest.raises(CheckpointError, match="truncated"):
        read_adapter(path)
