"""Token states of prompts under a frozen backbone, computed once and kept in a file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vzero_server.model import packing
from vzero_server.model.backbone import Backbone
from vzero_server.types import Features, IntArray

_BATCH_TOKENS = 4096
_LARGEST = 6e4  # of float16


@dataclass(frozen=True)
class TokenStates:
    """States of the backbone's last layer for a list of prompts.

    Attributes:
        tokens: States of all prompts one after another, ``[total_tokens, hidden]``, mapped
            from the file.
        offsets: Where each prompt begins, and the end, ``[prompts + 1]``.
        pooled: The backbone's pooled state, before any normalisation, ``[prompts, hidden]``.
    """

    tokens: Features
    offsets: IntArray
    pooled: Features

    def __len__(self) -> int:
        return len(self.pooled)

    @property
    def hidden(self) -> int:
        """Columns of a state."""
        return int(self.pooled.shape[1])

    @property
    def lengths(self) -> IntArray:
        """Tokens of each prompt, ``[prompts]``."""
        lengths: IntArray = np.diff(self.offsets)
        return lengths

    def batch(self, prompts: IntArray, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """What a connector reads of prompts, padded on the right to the longest.

        Args:
            prompts: Indices, ``[B]``.
            device: Where to put it.

        Returns:
            States ``[B, T, hidden]``, mask ``[B, T]`` and pooled states ``[B, hidden]``.
        """
        lengths = self.lengths[prompts]
        place = np.arange(lengths.max())
        mask = place < lengths[:, None]
        states = np.zeros((*mask.shape, self.hidden), dtype=np.float16)
        states[mask] = self.tokens[(self.offsets[prompts][:, None] + place)[mask]]
        arrays = (states, mask, self.pooled[prompts])
        read, real, pooled = (torch.from_numpy(array).to(device) for array in arrays)
        return read.float(), real, pooled.float()


def token_states(
    texts: Sequence[str],
    backbone: Backbone,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> TokenStates:
    """Token states of prompts, from the folder if they are there.

    They are kept as float16 under a hash of the texts and the backbone, so that a folder may
    hold many. A run that is killed leaves no file that looks whole.

    Args:
        texts: Prompts.
        backbone: The frozen encoder: a transformer and a pooling, with no dense layer behind.
        folder: Where the files are; it is made if need be.
        progress: Called with the prompts done and their number.
    """
    digest = sha256(f"{backbone.fingerprint} token states".encode())
    for text in texts:
        digest.update(sha256(text.encode("utf-8", "surrogatepass")).digest())
    stem = f"token-states-{digest.hexdigest()[:16]}"
    large, small = folder / f"{stem}.tokens.npy", folder / f"{stem}.prompts.npz"
    if not small.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _compute(texts, backbone, large, small, progress)
    with np.load(small) as prompts:
        return TokenStates(np.load(large, mmap_mode="r"), prompts["offsets"], prompts["pooled"])


def _compute(
    texts: Sequence[str],
    backbone: Backbone,
    large: Path,
    small: Path,
    progress: Callable[[int, int], None] | None,
) -> None:
    ids = backbone.tokenize(texts)
    lengths = np.array([len(one) for one in ids], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    hidden = backbone.hidden
    tokens = np.lib.format.open_memmap(
        large, mode="w+", dtype=np.float16, shape=(int(offsets[-1]), hidden)
    )
    pooled = np.zeros((len(texts), hidden), dtype=np.float16)
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= _BATCH_TOKENS:
            stop += 1
        chosen = order[start:stop]
        states, pooled[chosen] = _last_layer(backbone, [ids[index] for index in chosen])
        for prompt, own in zip(
            chosen, np.split(states, np.cumsum(lengths[chosen])[:-1]), strict=True
        ):
            tokens[offsets[prompt] : offsets[prompt + 1]] = own
        start = stop
        if progress:
            progress(start, len(order))
    tokens.flush()
    # Written last and moved into place: its presence says that the tokens are complete.
    partial = small.with_suffix(".partial.npz")
    np.savez(partial, offsets=offsets, pooled=pooled)
    partial.replace(small)


@torch.inference_mode()
def _last_layer(backbone: Backbone, tokens: Sequence[Sequence[int]]) -> tuple[Features, Features]:
    """States of all tokens, one prompt after another, and pooled states ``[B, hidden]``."""
    model: Any = backbone._model
    if backbone.packs:
        batch = packing.model_inputs(packing.pack_batch(tokens, model))
    else:
        batch = backbone._padded_batch(tokens)
    # What comes behind the pooling, a normalisation, is left out.
    features = model[1](model[0](dict(batch)))
    states, pooled = (
        features[name].float().clamp(-_LARGEST, _LARGEST).half().cpu().numpy()
        for name in ("token_embeddings", "sentence_embedding")
    )
    if backbone.packs:
        return states[0], pooled
    return states[features["attention_mask"].bool().cpu().numpy()], pooled
