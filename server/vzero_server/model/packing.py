"""Batches without padding: all prompts in one sequence, each attending only to itself."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from vzero_server.model.torchscript import Tensors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Model types whose tokens interact only in bidirectional attention.
_MODEL_TYPES = {"bert", "roberta", "xlm-roberta"}
# Modules that may follow the transformer: they support packed batches, or see no tokens.
_MODULES = {"Pooling", "Normalize", "Dense"}
_ATTENTION = "vzero_packed"
# Prompt lengths of some small batches, to trace a model with.
_EXAMPLE_LENGTHS = ((3, 5), (1,), (2, 7, 4))


def can_pack(model: "SentenceTransformer", device: str) -> bool:
    """Whether a model supports packed batches on a device.

    Only on a CPU: on a GPU, one attention call per prompt is too little work per call.
    """
    modules: list[Any] = list(model)
    transformer = modules[0]
    return (
        device == "cpu"
        and getattr(transformer.auto_model.config, "model_type", "") in _MODEL_TYPES
        and transformer.model_forward_params is None
        and {type(module).__name__ for module in modules[1:]} <= _MODULES
    )


def enable_packing(model: "SentenceTransformer") -> None:
    """Configure a model for packed batches; it no longer accepts padded ones."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, _attention)
    modules: Any = model
    modules[0].auto_model.set_attn_implementation(_ATTENTION)


def pack_batch(tokens: Sequence[Sequence[int]], model: "SentenceTransformer") -> Tensors:
    """Pack tokenised prompts into one sequence.

    Returns:
        Token ids, positions within the prompt and prompt indices, each ``[1, tokens]``, and
        cumulative lengths, ``[prompts + 1]``.
    """
    modules: Any = model
    config = modules[0].auto_model.config
    # RoBERTa numbers positions from the one after that of its padding token.
    first = 0 if config.model_type == "bert" else config.pad_token_id + 1
    lengths = torch.tensor([len(row) for row in tokens])
    ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    within = torch.arange(int(ends[-1])) - ends[:-1].repeat_interleave(lengths)
    return (
        torch.tensor([[token for row in tokens for token in row]]),
        within[None] + first,
        torch.arange(len(lengths)).repeat_interleave(lengths)[None],
        ends,
    )


def model_inputs(packed: Tensors) -> dict[str, torch.Tensor]:
    """Tensors of ``pack_batch`` as inputs of a sentence-transformers model, by name."""
    ids, positions, prompts, ends = packed
    return {
        "input_ids": ids,
        "position_ids": positions,
        "seq_idx": prompts,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
    }


def example_batches(model: "SentenceTransformer") -> list[Tensors]:
    """Packed batches with different numbers of prompts and tokens."""
    return [pack_batch([[0] * length for length in lengths], model) for lengths in _EXAMPLE_LENGTHS]


def prompt_means(states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean state of each prompt: ``[1, tokens, columns]`` to ``[prompts, columns]``."""
    lengths = batch["cu_seq_lens_q"].diff()
    sums = torch.zeros((lengths.shape[0], states.shape[-1]))
    sums = sums.index_add(0, batch["seq_idx"][0], states[0].float())
    return sums / lengths[:, None]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    cu_seq_lens_q: torch.Tensor,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention within each prompt: ``[1, heads, tokens, size]`` to ``[1, tokens, heads, size]``.

    The signature is that of attention functions in transformers. Looping over prompts costs
    little: the matrix products of a layer take most of its time, and cover all prompts at once.
    """
    attend = _scripted_attention()
    return attend(query, key, value, cu_seq_lens_q.diff(), scaling).transpose(1, 2), None


@cache
def _scripted_attention() -> Callable[..., torch.Tensor]:
    """``_attend_within_prompts`` compiled; tracing would make the number of prompts a constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: Callable[..., torch.Tensor] = torch.jit.script(_attend_within_prompts)
    return scripted


def _attend_within_prompts(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    # ``torch.split``: TorchScript does not know the types of the method ``Tensor.split``.
    sizes: list[int] = lengths.tolist()
    queries = torch.split(query, sizes, 2)
    keys = torch.split(key, sizes, 2)
    values = torch.split(value, sizes, 2)
    outputs: list[torch.Tensor] = []
    for prompt in range(len(sizes)):
        outputs.append(
            scaled_dot_product_attention(
                queries[prompt], keys[prompt], values[prompt], scale=scaling
            )
        )
    return torch.cat(outputs, 2)
