"""The paper's backbone: a causal text encoder, of which every token's last state is kept."""

import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from vzero_server.model.backbone import BackboneError
from vzero_server.model.dtypes import DTYPES

WINDOW = 2048
"""Tokens of a prompt that the paper's backbone reads (section 5.1)."""

_FILES = {".json", ".txt", ".model", ".safetensors", ".bin"}


class TokenBackbone:
    """A transformer of the Qwen3 kind, in the steps the engine schedules.

    Prompts are padded on the left, so that the last state of every row is that of its last
    token. A prompt longer than the window loses its end, but not the token that closes it:
    the paper does not say, but its authors' code cuts there, and so their adapter was trained.
    ``Backbone`` keeps both ends instead: its window is an eighth of this one, so that many
    prompts are cut, and our heads were trained on prompts cut that way.

    Attributes:
        name: What it was loaded from.
        hidden: Columns of a state.
        window: Most tokens the model sees of one prompt.
        fingerprint: Hex digest of all that determines a state, replaced weights apart.
    """

    def __init__(
        self, name: str, model: nn.Module, tokenizer: Tokenizer, *, window: int, fingerprint: str
    ) -> None:
        self.name = name
        self.window = window
        self.fingerprint = fingerprint
        self._model = model.eval().requires_grad_(False)
        config: Any = model.config
        self.hidden = int(config.hidden_size)
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(window)
        self._device = next(model.parameters()).device

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        window: int = WINDOW,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """Load a model from a folder; the network is never touched.

        Args:
            folder: With ``config.json``, weights and ``tokenizer.json``.
            device: Torch device.
            dtype: ``float32``, ``bfloat16`` or ``float16``.
            window: Most tokens of a prompt.
            weights: What to replace the folder's weights by, if not empty.

        Raises:
            BackboneError: The files are missing or do not form a model, or the weights are
                not those of such a model.
        """
        os.environ["HF_HUB_OFFLINE"] = "1"
        # Late: it takes seconds, and reads the setting above once.
        from transformers import AutoModel

        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # The library raises nothing narrower.
            raise BackboneError(f"backbone {folder}: tokenizer.json: {error}") from error
        try:
            model = AutoModel.from_pretrained(
                str(folder), local_files_only=True, dtype=DTYPES[dtype], use_safetensors=True
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise BackboneError(f"backbone {folder}: {reason}") from error
        if weights:
            try:
                model.load_state_dict(weights)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise BackboneError(
                    f"backbone {folder}: the adapter's file brings weights of another backbone: "
                    f"{reason}"
                ) from error
        fingerprint = _digest(folder, f"{dtype} {window} left")
        return cls(str(folder), model.to(device), tokenizer, window=window, fingerprint=fingerprint)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts, each at least one and at most ``window``; thread-safe."""
        encoded = self._tokenizer.encode_batch_fast(list(prompts))
        # Without a closing token an empty prompt has none; any will do.
        return [encoding.ids or [0] for encoding in encoded]

    @torch.inference_mode()
    def states(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Last-layer states of tokenised prompts, one batch. Not thread-safe.

        Returns:
            States ``[B, T, hidden]`` in float32, and a mask ``[B, T]`` that is True where a
            token is real; padding comes first.
        """
        longest = max(map(len, tokens))
        ids = torch.zeros((len(tokens), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for row, real, own in zip(ids, mask, tokens, strict=True):
            row[longest - len(own) :] = torch.tensor(own)
            real[longest - len(own) :] = True
        mask = mask.to(self._device)
        out = self._model(
            input_ids=ids.to(self._device), attention_mask=mask.long(), use_cache=False
        )
        return out.last_hidden_state.float(), mask


def _digest(folder: Path, settings: str) -> str:
    digest = sha256(f"{settings}\n".encode())
    for path in sorted(folder.iterdir()):
        if path.suffix in _FILES:
            digest.update(f"{path.name}\n".encode())
            with path.open("rb") as file:
                while piece := file.read(1 << 24):
                    digest.update(piece)
    return digest.hexdigest()
