"""Packed batches give the numbers of padded ones, with the same weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch.overrides import TorchFunctionMode
from transformers import (
    BertConfig,
    MPNetConfig,
    PreTrainedModel,
    RobertaConfig,
    XLMRobertaConfig,
)
from transformers.models.auto import AutoModel, AutoTokenizer

from tests.tiny_model import DIMENSION, WINDOW
from vzero_server.model import packing
from vzero_server.model.backbone import Backbone

PROMPTS = ["a", "some prompt", "some prompt", "longer than the window " * 4, "1 + 2 = ?"]
LAYERS = (0, 1, 2)
CONFIGS = [BertConfig, RobertaConfig, XLMRobertaConfig]


def make_model(config: type[Any], tiny_model: Path, folder: Path, pooling: str = "mean") -> str:
    """Save a random model of some type, with the tokeniser of the tiny one."""
    parts = folder / "parts"
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_model))
    tokenizer.save_pretrained(parts)
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModel.from_config(
        config(
            vocab_size=len(tokenizer),
            hidden_size=DIMENSION,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=WINDOW + 2,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.save_pretrained(parts)
    transformer = Transformer(str(parts), max_seq_length=WINDOW)
    modules = [transformer, Pooling(DIMENSION, pooling_mode=pooling)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def with_padding(folder: str, tokens: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Results of the padded pass of sentence-transformers."""
    model = SentenceTransformer(folder, device="cpu").eval()
    backbone = Backbone("padded", model, "")
    assert not backbone.packs
    with torch.inference_mode():
        return backbone.forward(backbone._padded_batch(tokens), LAYERS)


@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken"])
@pytest.mark.parametrize("config", CONFIGS)
def test_packed_batches_give_the_numbers_of_padded_ones(
    config: type[Any], pooling: str, tiny_model: Path, tmp_path: Path
) -> None:
    folder = make_model(config, tiny_model, tmp_path, pooling)
    backbone = Backbone.load(folder)
    assert backbone.packs
    tokens = backbone.tokenize(PROMPTS)
    for packed, padded in zip(
        backbone.states(tokens, LAYERS), with_padding(folder, tokens), strict=True
    ):
        np.testing.assert_allclose(packed, padded, atol=1e-5)
    np.testing.assert_allclose(backbone.embed(tokens), backbone.states(tokens, LAYERS)[0])


def test_prompts_of_a_batch_are_independent(tiny_backbone: Backbone) -> None:
    assert tiny_backbone.packs
    tokens = tiny_backbone.tokenize(PROMPTS)
    alone = np.concatenate([tiny_backbone.embed([row]) for row in tokens])
    np.testing.assert_allclose(tiny_backbone.embed(tokens), alone, atol=1e-5)


def test_packing_supports_bfloat16(tiny_model: Path) -> None:
    half, full = Backbone.load(str(tiny_model), dtype="bfloat16"), Backbone.load(str(tiny_model))
    tokens = full.tokenize(PROMPTS)
    assert half.packs
    np.testing.assert_allclose(half.embed(tokens), full.embed(tokens), atol=0.05)


def test_models_with_relative_positions_are_padded(tiny_model: Path, tmp_path: Path) -> None:
    """MPNet adds a bias for each distance between tokens, which packing does not support."""
    folder = make_model(MPNetConfig, tiny_model, tmp_path)
    backbone = Backbone.load(folder)
    assert not backbone.packs
    tokens = backbone.tokenize(PROMPTS)
    np.testing.assert_allclose(backbone.embed(tokens), with_padding(folder, tokens)[0], atol=1e-5)


class Calls(TorchFunctionMode):
    """Counts calls from Python to torch."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.number += 1
        return func(*args, **(kwargs or {}))


def test_a_pass_makes_few_calls_from_python(tiny_backbone: Backbone) -> None:
    """Each call from Python takes the interpreter lock, which the server's threads share."""
    tokens = tiny_backbone.tokenize(PROMPTS)
    tiny_backbone.states(tokens, (0, 1))
    calls = []
    for rows in (tokens, tokens * 10):
        with Calls() as counted:
            tiny_backbone.states(rows, (0, 1))
        calls.append(counted.number)
    assert calls[0] == calls[1] < 30


def test_a_pass_that_cannot_be_traced_runs_untraced(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def with_a_constant(states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        # A trace keeps the number of prompts of its example.
        return prompt_means(states, batch)[: len(batch["cu_seq_lens_q"].tolist()) - 1]

    expected, odd = Backbone.load(str(tiny_model)), Backbone.load(str(tiny_model))
    tokens = odd.tokenize(PROMPTS)
    expected_states = expected.states(tokens, (0, 1))
    prompt_means = packing.prompt_means
    monkeypatch.setattr(packing, "prompt_means", with_a_constant)
    for actual, wanted in zip(odd.states(tokens, (0, 1)), expected_states, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-5)
    assert "cannot be traced" in caplog.text
