"""Prompts in, the adapter's feature columns out: the encoder of the paper."""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import torch

from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.adapter_file import AdapterFile
from vzero_server.paper.token_backbone import TokenBackbone
from vzero_server.types import Features

_LARGEST = 6e4  # of float16


class AdapterEncoder:
    """Turns prompts into vectors of half-precision columns, in the steps of ``PromptEncoder``.

    A vector holds the last token's state first, of length one, by which prompts are compared;
    then the adapter's features, which the head reads (section 4.2).

    Attributes:
        pooled: Columns of the last token's state.
        features: Columns of the adapter, K * e.
        columns: Columns in all.
        fingerprint: Hex digest of all that determines a vector.
        packs: A batch is padded to its longest prompt.
    """

    packs = False

    def __init__(self, backbone: TokenBackbone, file: AdapterFile, *, device: str = "cpu") -> None:
        """Put an adapter on a backbone.

        Args:
            backbone: Gives the token states.
            file: The adapter.
            device: Torch device of both.

        Raises:
            CheckpointError: The adapter was made for states of another size.
        """
        reads = file.adapter.config.hidden
        if reads != backbone.hidden:
            raise CheckpointError(
                f"the adapter reads token states of {reads} columns; those of backbone "
                f"{backbone.name} have {backbone.hidden}"
            )
        self._backbone = backbone
        self._adapter = file.adapter.to(device)
        self.pooled = backbone.hidden
        self.features = file.adapter.features
        self.columns = self.pooled + self.features
        described = f"{backbone.fingerprint} {file.fingerprint} float16"
        self.fingerprint = sha256(described.encode()).hexdigest()

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """The first step, in the order of the prompts; thread-safe."""
        return self._backbone.tokenize(prompts)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[Sequence[int]]) -> Features:
        """The second step, one batch: ``[len(prompts), columns]``, finite. Not thread-safe."""
        states, mask = self._backbone.states(prompts)
        last = states[:, -1]
        features = self._adapter(states, mask, last).clamp(-_LARGEST, _LARGEST)
        unit = torch.nn.functional.normalize(last, dim=-1)
        vectors: Features = torch.cat([unit, features], -1).half().cpu().numpy()
        return np.ascontiguousarray(vectors)
