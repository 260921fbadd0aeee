"""Checkpoints of TabPFN: formats, limits, and files that are rejected."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tabpfn.checkpoint import save_as_safetensors

from tests.tiny_tabpfn import SMALL, save_tiny_tabpfn
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.tabpfn_file import LICENCES, load_pickled, read_tabpfn, save_tabpfn


class MaliciousPickle:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("architecture", LICENCES)
def test_every_architecture_is_read_with_its_limits(tmp_path: Path, architecture: str) -> None:
    assert SMALL.keys() == LICENCES.keys()
    file = read_tabpfn(save_tiny_tabpfn(tmp_path / "head.ckpt", architecture))
    assert file.architecture == architecture
    assert file.commercial == (architecture == "tabpfn_v2")
    assert (file.most_columns == 500) == (architecture == "tabpfn_v2")
    assert file.temperature == 0.9
    assert not file.net.training


def test_the_architecture_name_base_means_tabpfn_v2_5(tmp_path: Path) -> None:
    file = read_tabpfn(save_tiny_tabpfn(tmp_path / "head.ckpt", architecture_name="base"))
    assert file.architecture == "tabpfn_v2_5"


def test_temperature_and_limits_are_read_from_the_checkpoint(tmp_path: Path) -> None:
    config = {"SOFTMAX_TEMPERATURE": 0.7, "MAX_NUMBER_OF_SAMPLES": 99, "MAX_NUMBER_OF_FEATURES": 98}
    file = read_tabpfn(save_tiny_tabpfn(tmp_path / "head.ckpt", inference_config=config))
    assert (file.temperature, file.most_rows, file.most_columns) == (0.7, 99, 98)


def test_safetensors_hold_the_same_weights(tmp_path: Path) -> None:
    path = save_tiny_tabpfn(tmp_path / "head.ckpt")
    other = tmp_path / "head.safetensors"
    save_as_safetensors(torch.load(path, weights_only=True), other)
    weights = read_tabpfn(path).net.state_dict()
    other_weights = read_tabpfn(other).net.state_dict()
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    path, touched = tmp_path / "evil.ckpt", tmp_path / "touched"
    torch.save({"state_dict": {}, "config": MaliciousPickle(touched)}, path)
    with pytest.raises(CheckpointError, match="could run code and is refused"):
        read_tabpfn(path)
    path.write_bytes(pickle.dumps(MaliciousPickle(touched)))
    with pytest.raises(CheckpointError, match="refused"):
        load_pickled(path)
    assert not touched.exists()


def test_files_that_are_not_heads_are_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing.ckpt: no such file"):
        read_tabpfn(tmp_path / "missing.ckpt")
    with pytest.raises(CheckpointError, match=r"missing.safetensors: no such file"):
        read_tabpfn(tmp_path / "missing.safetensors")
    whole = save_tiny_tabpfn(tmp_path / "head.ckpt")
    cut = tmp_path / "cut.ckpt"
    for size in (0, 100, whole.stat().st_size // 2):
        cut.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(CheckpointError, match=r"cut.ckpt: truncated"):
            read_tabpfn(cut)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"broken.safetensors: truncated"):
        read_tabpfn(broken)
    torch.save([1, 2], cut)
    with pytest.raises(CheckpointError, match="contains a list"):
        read_tabpfn(cut)
    torch.save({"config": {}}, cut)
    with pytest.raises(CheckpointError, match="state_dict or config is missing"):
        read_tabpfn(cut)
    with pytest.raises(CheckpointError, match="'tabpfn_v9' is unknown; known are tabpfn_v2,"):
        read_tabpfn(save_tiny_tabpfn(cut, architecture_name="tabpfn_v9"))
    with pytest.raises(CheckpointError, match="the weights are not those of tabpfn_v2_6"):
        read_tabpfn(save_tiny_tabpfn(cut, architecture_name="tabpfn_v2_6"))
    content = torch.load(whole, weights_only=True)
    torch.save(content | {"config": content["config"] | {"max_num_classes": 0}}, cut)
    with pytest.raises(CheckpointError, match="a regressor"):
        read_tabpfn(cut)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"emsize": "wide"}}, "the settings are not those of tabpfn_v2_5: .*emsize"),
        ({"config": 3}, "the settings are not those of"),
        ({"config": {"max_num_classes": 2, "emsize": 25}}, "the settings are not those of"),
        ({"inference_config": 3}, "the settings are not those of"),
        ({"inference_config": {"SOFTMAX_TEMPERATURE": "hot"}}, "the settings are not .*hot"),
        ({"inference_config": {"SOFTMAX_TEMPERATURE": 0}}, "the temperature is 0.0"),
        ({"inference_config": {"MAX_NUMBER_OF_SAMPLES": None}}, "the settings are not those of"),
        ({"state_dict": 3}, "state_dict contains a int, not tensors"),
        ({"state_dict": {"emsize": 3}}, "the weights are not those of tabpfn_v2_5"),
        ({"state_dict": {3: torch.zeros(1)}}, "the weights are not those of tabpfn_v2_5"),
    ],
)
def test_invalid_content_is_named_in_the_error(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save_tiny_tabpfn(tmp_path / "head.ckpt")
    torch.save(torch.load(path, weights_only=True) | changes, path)
    with pytest.raises(CheckpointError, match=f"head.ckpt: {message}"):
        read_tabpfn(path)


def test_weights_that_are_not_finite_are_rejected(tmp_path: Path) -> None:
    path = save_tiny_tabpfn(tmp_path / "head.ckpt")
    content = torch.load(path, weights_only=True)
    content["state_dict"]["target_embedder.bias"][0] = float("nan")
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"target_embedder.bias contains NaN"):
        read_tabpfn(path)


@pytest.mark.parametrize("architecture", LICENCES)
def test_a_saved_head_is_read_unchanged(tmp_path: Path, architecture: str) -> None:
    config = {"SOFTMAX_TEMPERATURE": 0.7, "MAX_NUMBER_OF_SAMPLES": 99, "MAX_NUMBER_OF_FEATURES": 98}
    path = save_tiny_tabpfn(tmp_path / "head.ckpt", architecture, inference_config=config)
    file, saved = read_tabpfn(path), tmp_path / "saved.safetensors"
    save_tabpfn(saved, file, note="tuned")
    read = read_tabpfn(saved)
    assert replace(read, net=file.net, path=path) == file
    assert all(
        torch.equal(weight, read.net.state_dict()[name])
        for name, weight in file.net.state_dict().items()
    )


def test_a_checkpoint_may_state_its_licence(tmp_path: Path) -> None:
    file = read_tabpfn(save_tiny_tabpfn(tmp_path / "head.ckpt", licence="CC0-1.0"))
    assert (file.licence, file.commercial) == ("CC0-1.0", True)
