"""A small Qwen3 of random weights, and an adapter in the file format of the paper's authors."""

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from vzero_server.paper.adapter import AdapterConfig, ResidualQueryAdapter

HIDDEN = 16
ADAPTER = AdapterConfig(hidden=HIDDEN, queries=5, width=6, heads=3, bottleneck=8)


def save_tiny_qwen(folder: Path, *, seed: int = 0, hidden: int = HIDDEN) -> Qwen3Model:
    """Save a model over single characters, with one more token at the end of each prompt."""
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<end>", *string.printable])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", 1)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<end>").save_pretrained(folder)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        initializer_range=0.3,
    )
    model = Qwen3Model(config).eval()
    model.save_pretrained(folder)
    return model


def trained_adapter(config: AdapterConfig = ADAPTER) -> ResidualQueryAdapter:
    """An adapter whose parameters all differ from their initial values."""
    torch.manual_seed(1)
    adapter = ResidualQueryAdapter(config).eval()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return adapter


def save_released_file(
    path: Path,
    adapter: ResidualQueryAdapter | None = None,
    backbone: torch.nn.Module | None = None,
    *,
    prefix: str = "",
    bare: bool = False,
    **further: Any,
) -> Path:
    """Save an adapter as the authors' training does.

    Args:
        path: The file.
        adapter: By default a trained one.
        backbone: A backbone saved in the same file.
        prefix: Of the names of all tensors.
        bare: Save the tensors alone, without the training state around them.
        further: Further entries of the file.
    """
    state = (adapter or trained_adapter()).state_dict()
    tensors = {f"{prefix}adapter_layer.{k}": v for k, v in state.items()}
    if backbone is not None:
        tensors |= {f"{prefix}backbone.{k}": v for k, v in backbone.state_dict().items()}
    torch.save(tensors if bare else {"epoch": 3, "model_state_dict": tensors, **further}, path)
    return path
