"""Passes without padding: the prompts of a batch in one row, each attending to itself alone."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from vzero_server.model.torchscript import Tensors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Kinds of models whose tokens meet in attention alone, in both directions.
_KINDS = {"bert", "roberta", "xlm-roberta"}
# What may follow the transformer: modules that can do without padding, or see no tokens.
_MODULES = {"Pooling", "Normalize", "Dense"}
_ATTENTION = "vzero_packed"
# Lengths of the prompts of some batches, for whoever wants to try the model.
_EXAMPLES = ((3, 5), (1,), (2, 7, 4))


def can_pack(model: "SentenceTransformer", device: str) -> bool:
    """Whether passes of a model may go without padding.

    On a GPU they do not: an attention for each prompt is too small a piece of work there.
    """
    modules: list[Any] = list(model)
    transformer = modules[0]
    return (
        device == "cpu"
        and getattr(transformer.auto_model.config, "model_type", "") in _KINDS
        and transformer.model_forward_params is None
        and {type(module).__name__ for module in modules[1:]} <= _MODULES
    )


def pack(model: "SentenceTransformer") -> None:
    """Let a model read what ``packed`` makes, and nothing else from now on."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, _attention)
    modules: Any = model
    modules[0].auto_model.set_attn_implementation(_ATTENTION)


def packed(tokens: Sequence[Sequence[int]], model: "SentenceTransformer") -> Tensors:
    """A batch without padding: its tokens, their positions, whose they are, and prompts' ends."""
    modules: Any = model
    config = modules[0].auto_model.config
    # RoBERTa counts positions from behind that of its padding.
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


def named(parts: Tensors) -> dict[str, torch.Tensor]:
    """What ``packed`` made, under the names that sentence-transformers gives its parts."""
    ids, positions, owners, ends = parts
    return {
        "input_ids": ids,
        "position_ids": positions,
        "seq_idx": owners,
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
    }


def examples(model: "SentenceTransformer") -> list[Tensors]:
    """Batches of unlike numbers of prompts and tokens."""
    return [packed([[0] * length for length in lengths], model) for lengths in _EXAMPLES]


def means(states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
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

    The signature is that of the attention functions of transformers. One prompt after the
    other: the products of a layer take nearly all of its time, and they are done together.
    """
    return _script()(query, key, value, cu_seq_lens_q.diff(), scaling).transpose(1, 2), None


@cache
def _script() -> Callable[..., torch.Tensor]:
    """``_each`` as a program: a trace would take the number of its prompts for a constant."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        program: Callable[..., torch.Tensor] = torch.jit.script(_each)
    return program


def _each(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: torch.Tensor,
    scaling: float,
) -> torch.Tensor:
    # ``torch.split``: the method of tensors is written in Python, and untyped.
    sizes: list[int] = lengths.tolist()
    queries = torch.split(query, sizes, 2)
    keys = torch.split(key, sizes, 2)
    values = torch.split(value, sizes, 2)
    found: list[torch.Tensor] = []
    for place in range(len(sizes)):
        found.append(
            scaled_dot_product_attention(queries[place], keys[place], values[place], scale=scaling)
        )
    return torch.cat(found, 2)
