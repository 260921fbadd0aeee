"""Feature vectors of prompts: everything that estimators read of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from vzero_server.model.backbone import Backbone
from vzero_server.model.text_columns import NAMES, text_columns
from vzero_server.types import Features

LAYERS = (2, 4, 6)
"""Hidden states of MiniLM that are averaged over tokens. Its middle layers separate hard prompts
from easy ones better than its last, which was trained to represent the topic."""

# Bound of the text columns: the largest float16 is 65504.
_LIMIT = 6e4


@dataclass(frozen=True, slots=True)
class TokenisedPrompt:
    """A tokenised prompt; its length is its number of tokens.

    Attributes:
        tokens: Token ids.
        text: Text columns, ``[len(NAMES)]``; empty if the encoder has no layers.
    """

    tokens: list[int]
    text: Features

    def __len__(self) -> int:
        return len(self.tokens)


class PromptEncoder:
    """Computes feature vectors of prompts in two steps, tokenisation and embedding.

    The first ``pooled`` columns of a vector are the pooled embedding, by which prompts are
    compared. If the encoder has layers, their mean hidden states and the text columns follow,
    which the in-context head reads. A vector depends only on the text and the backbone, so a new
    head needs no new vectors.

    Attributes:
        pooled: Columns of the pooled embedding.
        columns: Columns of a vector.
        fingerprint: Hex digest of everything that determines a vector.
        packs: Whether batches are computed without padding; see ``Backbone``.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int] = ()) -> None:
        self._backbone = backbone
        self._layers = tuple(layers)
        self.pooled = backbone.dimension
        self.packs = backbone.packs
        head_columns = len(layers) * backbone.hidden + len(NAMES) if layers else 0
        self.columns = self.pooled + head_columns
        description = f"{backbone.fingerprint} {self._layers} {NAMES if layers else ()} float16"
        self.fingerprint = sha256(description.encode()).hexdigest()

    def tokenize(self, prompts: Sequence[str]) -> list[TokenisedPrompt]:
        """Tokenise prompts and compute their text columns; thread-safe."""
        tokens = self._backbone.tokenize(prompts)
        if self._layers:
            text = text_columns(prompts).clip(-_LIMIT, _LIMIT).astype(np.float16)
        else:
            text = np.empty((len(prompts), 0), np.float16)
        return [TokenisedPrompt(*pair) for pair in zip(tokens, text, strict=True)]

    def embed(self, prompts: Sequence[TokenisedPrompt]) -> Features:
        """Feature vectors of one batch, ``[len(prompts), columns]``, finite; not thread-safe."""
        pooled, means = self._backbone.states([prompt.tokens for prompt in prompts], self._layers)
        vectors = np.empty((len(prompts), self.columns), np.float16)
        vectors[:, : self.pooled] = pooled
        vectors[:, self.pooled : self.pooled + means.shape[1]] = means
        vectors[:, self.pooled + means.shape[1] :] = [prompt.text for prompt in prompts]
        return vectors
