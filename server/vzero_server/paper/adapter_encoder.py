"""The paper's encoder: feature vectors of prompts from a backbone and an adapter."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import torch

from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.adapter_file import AdapterFile
from vzero_server.paper.token_backbone import TokenBackbone
from vzero_server.types import Features

# Bound of the features: the largest float16 is 65504.
_LIMIT = 6e4


class AdapterEncoder:
    """Computes feature vectors of prompts in the steps of ``PromptEncoder``.

    The first ``pooled`` columns of a vector are the normalised state of the last token, by which
    prompts are compared. The adapter's features follow, which the head reads (section 4.2).

    Attributes:
        pooled: Columns of the last token's state.
        features: Columns of the adapter, K * e.
        columns: Columns of a vector.
        fingerprint: Hex digest of everything that determines a vector.
        packs: Whether batches are computed without padding: never.
    """

    packs = False

    def __init__(self, backbone: TokenBackbone, file: AdapterFile, *, device: str = "cpu") -> None:
        """Combine a backbone and an adapter.

        Args:
            backbone: Backbone that computes the token states.
            file: The adapter.
            device: Torch device of both.

        Raises:
            CheckpointError: The adapter expects token states of another size.
        """
        expected = file.adapter.config.hidden
        if expected != backbone.hidden:
            raise CheckpointError(
                f"the adapter reads token states of {expected} columns; those of backbone "
                f"{backbone.name} have {backbone.hidden}"
            )
        self._backbone = backbone
        self._adapter = file.adapter.to(device)
        self.pooled = backbone.hidden
        self.features = file.adapter.features
        self.columns = self.pooled + self.features
        description = f"{backbone.fingerprint} {file.fingerprint} float16"
        self.fingerprint = sha256(description.encode()).hexdigest()

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts; thread-safe."""
        return self._backbone.tokenize(prompts)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[Sequence[int]]) -> Features:
        """Feature vectors of one batch, ``[len(prompts), columns]``, finite; not thread-safe."""
        states, mask = self._backbone.states(prompts)
        last = states[:, -1]
        features = self._adapter(states, mask, last).clamp(-_LIMIT, _LIMIT)
        unit = torch.nn.functional.normalize(last, dim=-1)
        vectors: Features = torch.cat([unit, features], -1).half().cpu().numpy()
        return np.ascontiguousarray(vectors)
