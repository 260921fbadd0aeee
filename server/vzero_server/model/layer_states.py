"""Features the in-context head reads of a prompt: layer means and text columns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vzero_server.model.backbone import Backbone

LAYERS = (2, 4, 6)
"""Hidden states that are averaged; 0 is the embedding layer. The middle of MiniLM tells hard
prompts from easy ones better than its end, which was trained to keep the topic."""


class LayerBackbone(Backbone):
    """A backbone that returns the token means of several layers."""

    @torch.inference_mode()
    def states(
        self, tokens: Sequence[Sequence[int]], layers: Sequence[int] = LAYERS
    ) -> npt.NDArray[np.float32]:
        """Token means of hidden states, ``[len(tokens), len(layers) * hidden]``.

        Not normalised. One batch, padded to its longest prompt. Not thread-safe.
        """
        inputs = self._batch(tokens)
        transformer: Any = self._model[0]
        hidden = transformer.auto_model(**inputs, output_hidden_states=True).hidden_states
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        means = [(hidden[layer].float() * mask).sum(1) / mask.sum(1) for layer in layers]
        states: npt.NDArray[np.float32] = torch.cat(means, -1).cpu().numpy()
        return states
