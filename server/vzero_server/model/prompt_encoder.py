"""Prompts in, feature vectors out: all that any estimator reads of a prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from vzero_server.model.backbone import Backbone
from vzero_server.model.text_columns import NAMES, text_columns
from vzero_server.types import Features

LAYERS = (2, 4, 6)
"""Hidden states of MiniLM that are averaged. Its middle tells hard prompts from easy ones
better than its end, which was trained to keep the topic."""


_LARGEST = 6e4  # of float16


@dataclass(frozen=True, slots=True)
class TokenisedPrompt:
    """A prompt ready for the backbone; as long as its tokens are many.

    Attributes:
        tokens: Token ids.
        text: Text columns, ``[len(NAMES)]``; empty where no head reads them.
    """

    tokens: list[int]
    text: Features

    def __len__(self) -> int:
        return len(self.tokens)


class PromptEncoder:
    """Turns prompts into vectors of half-precision columns, in two steps.

    A vector holds the pooled embedding first, ``pooled`` columns, by which prompts are
    compared; then, if the encoder has layers, their token means and the text columns,
    which the in-context head reads. It depends on the text and the backbone alone, so
    that a new head needs no new vectors.

    Attributes:
        pooled: Columns of the pooled embedding.
        columns: Columns in all.
        fingerprint: Hex digest of all that determines a vector.
        packs: Whether a batch costs its tokens, however unlike in length its prompts are.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int] = ()) -> None:
        self._backbone = backbone
        self._layers = tuple(layers)
        self.pooled = backbone.dimension
        self.packs = backbone.packs
        further = len(layers) * backbone.hidden + len(NAMES) if layers else 0
        self.columns = self.pooled + further
        described = f"{backbone.fingerprint} {self._layers} {NAMES if layers else ()} float16"
        self.fingerprint = sha256(described.encode()).hexdigest()

    def tokenize(self, prompts: Sequence[str]) -> list[TokenisedPrompt]:
        """The first step, in the order of the prompts; thread-safe."""
        tokens = self._backbone.tokenize(prompts)
        if self._layers:
            text = text_columns(prompts).clip(-_LARGEST, _LARGEST).astype(np.float16)
        else:
            text = np.empty((len(prompts), 0), np.float16)
        return [TokenisedPrompt(*pair) for pair in zip(tokens, text, strict=True)]

    def embed(self, prompts: Sequence[TokenisedPrompt]) -> Features:
        """The second step, one batch: ``[len(prompts), columns]``, finite. Not thread-safe."""
        pooled, means = self._backbone.states([prompt.tokens for prompt in prompts], self._layers)
        vectors = np.empty((len(prompts), self.columns), np.float16)
        vectors[:, : self.pooled] = pooled
        vectors[:, self.pooled : self.pooled + means.shape[1]] = means
        vectors[:, self.pooled + means.shape[1] :] = [prompt.text for prompt in prompts]
        return vectors
