"""Feature columns of prompts, separated for baselines and the head."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from vzero_server.model.prompt_encoder import PromptEncoder
from vzero_server.model.text_columns import NAMES
from vzero_server.types import Features, Float32Array

_LIMIT = 5.0


@dataclass(frozen=True)
class Columns:
    """Columns of all prompts of an outcomes file; P prompts.

    Attributes:
        embeddings: Pooled embeddings of length 1, ``[P, d]``.
        text: Standardised text statistics, ``[P, 32]``, the log of the length first.
        features: Features of the head, ``[P, columns]``.
    """

    embeddings: Float32Array
    text: Float32Array
    features: Features

    @classmethod
    def of(cls, vectors: Features, encoder: PromptEncoder) -> Self:
        """Separate the vectors of the encoder, ``[P, encoder.columns]``."""
        pooled = vectors[:, : encoder.pooled].astype(np.float32)
        text = vectors[:, -len(NAMES) :].astype(np.float32)
        return cls(
            embeddings=pooled / (np.linalg.norm(pooled, axis=1, keepdims=True) + 1e-9),
            text=((text - text.mean(0)) / (text.std(0) + 1e-6)).clip(-_LIMIT, _LIMIT),
            features=vectors[:, encoder.pooled :],
        )

    @property
    def lengths(self) -> Float32Array:
        """Standardised log of the length, ``[P, 1]``."""
        return self.text[:, :1]

    @property
    def wide(self) -> Float32Array:
        """Embeddings of unit variance and text statistics, ``[P, d + 32]``."""
        scale = self.embeddings.shape[1] ** 0.5
        return np.concatenate([self.embeddings * scale, self.text], axis=1)
