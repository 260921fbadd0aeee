from pathlib import Path

import pytest
import torch

from tests.paper.test_tabpfn_file import Evil
from tests.tiny_qwen import ADAPTER, save_released_file, save_tiny_qwen, trained_adapter
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.adapter import RELEASED
from vzero_server.paper.adapter_file import (
    AdapterFile,
    read_adapter,
    save_adapter,
    save_released,
)


def same(one: AdapterFile, other: AdapterFile) -> bool:
    pairs = [
        (one.adapter.state_dict(), other.adapter.state_dict()),
        (one.backbone, other.backbone),
    ]
    return one.fingerprint == other.fingerprint and all(
        left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
        for left, right in pairs
    )


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_both_layouts_are_read_with_and_without_prefix(
    tmp_path: Path, bare: bool, prefix: str
) -> None:
    adapter = trained_adapter()
    plain = read_adapter(save_released_file(tmp_path / "plain.pt", adapter))
    read = read_adapter(save_released_file(tmp_path / "v0.pt", adapter, prefix=prefix, bare=bare))
    assert same(read, plain)
    assert read.adapter.config == ADAPTER
    assert not read.adapter.training
    assert all(
        torch.equal(v, adapter.state_dict()[k]) for k, v in read.adapter.state_dict().items()
    )


def test_the_released_shape_is_read_as_the_paper_says(tmp_path: Path) -> None:
    read = read_adapter(save_released_file(tmp_path / "v0.pt", trained_adapter(RELEASED)))
    assert read.adapter.config == RELEASED
    assert read.adapter.features == 1008


def test_heads_are_those_the_training_names(tmp_path: Path) -> None:
    path = save_released_file(tmp_path / "v0.pt", args={"num_heads": 2, "other": None})
    assert read_adapter(path).adapter.config.heads == 2


@pytest.mark.parametrize("with_backbone", [False, True])
def test_converting_there_and_back_changes_nothing(tmp_path: Path, with_backbone: bool) -> None:
    backbone = save_tiny_qwen(tmp_path / "qwen") if with_backbone else None
    theirs = read_adapter(save_released_file(tmp_path / "v0.pt", backbone=backbone))
    assert bool(theirs.backbone) == with_backbone
    save_adapter(tmp_path / "v0.safetensors", theirs)
    ours = read_adapter(tmp_path / "v0.safetensors")
    assert same(ours, theirs)
    save_released(tmp_path / "again.pt", ours)
    assert same(read_adapter(tmp_path / "again.pt"), theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_in_half_precision_is_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    """It computes in float32 and is written as it computes; that is what the fingerprint says."""
    theirs = read_adapter(save_released_file(tmp_path / "v0.pt", trained_adapter().to(dtype)))
    save_adapter(tmp_path / "v0.safetensors", theirs)
    assert same(read_adapter(tmp_path / "v0.safetensors"), theirs)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    adapter = trained_adapter()
    with torch.no_grad():
        adapter.proj_kv.weight[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"adapter_layer.proj_kv.weight contains NaN"):
        read_adapter(save_released_file(tmp_path / "v0.pt", adapter))


def test_files_that_are_no_adapter_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.pt"
    with pytest.raises(CheckpointError, match=r"missing.pt: no such file"):
        read_adapter(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match=r"missing.safetensors: no such file"):
        read_adapter(tmp_path / "missing.safetensors")
    save_released_file(path, further=Evil(tmp_path / "touched"))
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


def test_an_altered_file_of_ours_is_refused(tmp_path: Path) -> None:
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
