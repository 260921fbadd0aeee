"""The paper's backbone: a causal text encoder that returns the last state of every token."""

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

MAX_TOKENS = 2048
"""Maximum number of tokens of a prompt (paper, section 5.1)."""

_FILES = {".json", ".txt", ".model", ".safetensors", ".bin"}


class TokenBackbone:
    """A transformer such as Qwen3, split into the steps that the engine schedules.

    Prompts are padded on the left, so that the last state of every row is that of its last token.
    Longer prompts are cut at the end, but keep their closing token. The paper does not specify
    this; the authors' code does, and their adapter was trained that way. ``Backbone`` keeps both
    ends instead: its limit is an eighth of this one, so it cuts more prompts, and its heads were
    trained that way.

    Attributes:
        name: Name of the folder it was loaded from.
        hidden: Columns of a state.
        max_tokens: Maximum number of tokens of a prompt.
        fingerprint: Hex digest of everything that determines a state, except replaced weights.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        tokenizer: Tokenizer,
        *,
        max_tokens: int,
        fingerprint: str,
    ) -> None:
        self.name = name
        self.max_tokens = max_tokens
        self.fingerprint = fingerprint
        self._model = model.eval().requires_grad_(False)
        config: Any = model.config
        self.hidden = int(config.hidden_size)
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self._device = next(model.parameters()).device

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        max_tokens: int = MAX_TOKENS,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Self:
        """Load a model from a folder; never accesses the network.

        Args:
            folder: Folder with ``config.json``, weights and ``tokenizer.json``.
            device: Torch device.
            dtype: ``float32``, ``bfloat16`` or ``float16``.
            max_tokens: Maximum number of tokens of a prompt.
            weights: Weights to use instead of the folder's, if not empty.

        Raises:
            BackboneError: The files are missing or not a model, or the weights do not match it.
        """
        os.environ["HF_HUB_OFFLINE"] = "1"
        # Imported here: the import takes seconds, and reads the setting above.
        from transformers import AutoModel

        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # The library has no error class of its own.
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
        fingerprint = _digest(folder, f"{dtype} {max_tokens} left")
        return cls(
            str(folder), model.to(device), tokenizer, max_tokens=max_tokens, fingerprint=fingerprint
        )

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts, each 1 to ``max_tokens`` long; thread-safe."""
        encoded = self._tokenizer.encode_batch_fast(list(prompts))
        # Without a closing token, an empty prompt has no tokens; use any.
        return [encoding.ids or [0] for encoding in encoded]

    @torch.inference_mode()
    def states(self, tokens: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Last-layer states of one batch of tokenised prompts. Not thread-safe.

        Returns:
            States ``[B, T, hidden]`` in float32, and a mask ``[B, T]``, True for real tokens;
            padding comes first.
        """
        longest = max(map(len, tokens))
        ids = torch.zeros((len(tokens), longest), dtype=torch.int64)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for ids_row, mask_row, prompt in zip(ids, mask, tokens, strict=True):
            ids_row[longest - len(prompt) :] = torch.tensor(prompt)
            mask_row[longest - len(prompt) :] = True
        mask = mask.to(self._device)
        output = self._model(
            input_ids=ids.to(self._device), attention_mask=mask.long(), use_cache=False
        )
        return output.last_hidden_state.float(), mask


def _digest(folder: Path, settings: str) -> str:
    digest = sha256(f"{settings}\n".encode())
    for path in sorted(folder.iterdir()):
        if path.suffix in _FILES:
            digest.update(f"{path.name}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 24):
                    digest.update(chunk)
    return digest.hexdigest()
