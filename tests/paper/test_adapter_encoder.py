"""Prompts encoded by a token backbone and an adapter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.paper.test_adapter import reference_features
from tests.tiny_qwen import ADAPTER, HIDDEN, save_released_file, save_tiny_qwen, trained_adapter
from vzero_server.model.backbone import BackboneError
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.adapter_encoder import AdapterEncoder
from vzero_server.paper.adapter_file import read_adapter
from vzero_server.paper.token_backbone import TokenBackbone

PROMPTS = ["What is 2 plus 2?", "x", "", "A much longer prompt, so that the others are padded."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qwen")
    save_tiny_qwen(path)
    return path


def encoder_of(folder: Path, checkpoint: Path, **settings: int) -> AdapterEncoder:
    file = read_adapter(checkpoint)
    backbone = TokenBackbone.load(folder, weights=file.backbone, **settings)
    return AdapterEncoder(backbone, file)


def test_features_equal_the_equations_in_float64(folder: Path, tmp_path: Path) -> None:
    """The whole path: tokeniser, transformer, state of the last token, Eq. 4."""
    adapter = trained_adapter()
    encoder = encoder_of(folder, save_released_file(tmp_path / "v0.pt", adapter))
    assert (encoder.pooled, encoder.columns) == (HIDDEN, HIDDEN + ADAPTER.features)
    vectors = encoder.embed(encoder.tokenize(PROMPTS))
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModel.from_pretrained(folder, dtype=torch.float64)
    adapter = adapter.double()
    for prompt, vector in zip(PROMPTS, vectors, strict=True):
        ids = tokenizer(prompt, max_length=2048, truncation=True, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model(input_ids=ids).last_hidden_state[0].numpy()
        expected = reference_features(adapter, states, len(states), states[-1])
        np.testing.assert_allclose(vector[HIDDEN:], expected, rtol=2e-3, atol=2e-3)
        unit = states[-1] / np.linalg.norm(states[-1])
        np.testing.assert_allclose(vector[:HIDDEN], unit, atol=1e-3)


def test_features_do_not_depend_on_the_batch(folder: Path, tmp_path: Path) -> None:
    encoder = encoder_of(folder, save_released_file(tmp_path / "v0.pt"))
    batched = encoder.embed(encoder.tokenize(PROMPTS))
    for prompt, vector in zip(PROMPTS, batched, strict=True):
        single = encoder.embed(encoder.tokenize([prompt]))[0]
        np.testing.assert_allclose(vector, single, atol=2e-3)


def test_a_long_prompt_is_truncated_before_the_final_token(folder: Path, tmp_path: Path) -> None:
    path = save_released_file(tmp_path / "v0.pt")
    encoder = encoder_of(folder, path, max_tokens=10)
    long, cut = encoder.tokenize(["0123456789abcdef", "012345678"])
    assert long == cut
    assert len(long) == 10
    assert long[-1] == 1


def test_weights_of_the_backbone_in_the_file_are_used(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    tuned = save_tiny_qwen(other, seed=5)
    path = save_released_file(tmp_path / "v0.pt", backbone=tuned, prefix="module.")
    encoder = encoder_of(folder, path)
    expected = encoder_of(other, save_released_file(tmp_path / "without-backbone.pt"))
    tokens = encoder.tokenize(PROMPTS)
    np.testing.assert_array_equal(encoder.embed(tokens), expected.embed(tokens))
    plain = encoder_of(folder, save_released_file(tmp_path / "plain.pt"))
    assert np.abs(encoder.embed(tokens) - plain.embed(tokens)).max() > 0.01
    assert len({encoder.fingerprint, expected.fingerprint, plain.fingerprint}) == 3


def test_the_fingerprint_depends_on_token_limit_and_number_format(
    folder: Path, tmp_path: Path
) -> None:
    file = read_adapter(save_released_file(tmp_path / "v0.pt"))
    backbones = [
        TokenBackbone.load(folder),
        TokenBackbone.load(folder, max_tokens=8),
        TokenBackbone.load(folder, dtype="bfloat16"),
    ]
    assert len({AdapterEncoder(backbone, file).fingerprint for backbone in backbones}) == 3


def test_incompatible_parts_are_named_in_the_error(folder: Path, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    save_tiny_qwen(wide, hidden=24)
    path = save_released_file(tmp_path / "v0.pt")
    with pytest.raises(CheckpointError, match=r"reads token states of 16 columns.* have 24"):
        encoder_of(wide, path)
    tuned = save_tiny_qwen(tmp_path / "tuned")
    with pytest.raises(BackboneError, match="brings weights of another backbone"):
        encoder_of(wide, save_released_file(tmp_path / "v1.pt", backbone=tuned))
    with pytest.raises(BackboneError, match=r"tokenizer.json"):
        TokenBackbone.load(tmp_path)
    (wide / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"backbone .*wide: "):
        TokenBackbone.load(wide)
