"""The protocol of what embeds prompts."""

from collections.abc import Sequence, Sized
from typing import Any, Protocol

from vzero_server.types import Features


class Encoder(Protocol):
    """Turns prompts into feature vectors; see ``vzero_server.model.prompt_encoder``."""

    def tokenize(self, prompts: Sequence[str]) -> Sequence[Sized]:
        """Tokenise prompts; the size of each result is its number of tokens. Thread-safe."""

    def embed(self, prompts: Sequence[Any]) -> Features:
        """Embed one batch of tokenised prompts, ``[len(prompts), columns]``."""
