"""An encoder whose device may run out of memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vzero_server.engine.embedding.encoder import Encoder
from vzero_server.model.oom import OomGuard
from vzero_server.types import Features


class GuardedEncoder:
    """An encoder with every pass under an ``OomGuard``."""

    def __init__(self, encoder: Encoder, guard: OomGuard) -> None:
        self._encoder = encoder
        self._guard = guard
        self.tokenize = encoder.tokenize

    def embed(self, prompts: Sequence[Any]) -> Features:
        """See ``Encoder``.

        Raises:
            DeviceMemoryError: There is no room even for one prompt at a time.
        """
        return self._guard.run(
            lambda: self._encoder.embed(prompts),
            lambda: np.concatenate([self._encoder.embed([prompt]) for prompt in prompts]),
            f"a prompt of up to {max(map(len, prompts))} tokens",
        )
