"""A value model of one policy: a small network on frozen features, trained by gradient descent."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vzero_server.types import AnyFloatArray, IntArray
from vzero_train.data.outcomes import Pool

_WIDTH = 64
_DECAY = 0.01


class ValueNetwork:
    """One hidden layer from columns of a prompt to its value.

    The recipe is that of the paper's vanilla value model (section 5.3): mean squared error
    against the rewards, batches of 32, epoch by epoch. The paper trains the whole
    language model at 1e-5; here the backbone is frozen and only this network learns, at ``rate``.
    """

    def __init__(self, columns: AnyFloatArray, *, rate: float = 1e-3, seed: int = 0) -> None:
        """Start from random weights.

        Args:
            columns: Features of all prompts, ``[prompts, columns]``, of about unit variance.
            rate: Learning rate of AdamW.
            seed: Seed of the weights and of the order of outcomes.
        """
        self._columns = torch.from_numpy(np.asarray(columns, dtype=np.float32))
        self._generator = torch.Generator().manual_seed(seed)
        inner = nn.Linear(self._columns.shape[1], _WIDTH)
        outer = nn.Linear(_WIDTH, 1)
        with torch.no_grad():
            for layer in (inner, outer):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=self._generator)
                layer.bias.zero_()
        self._network = nn.Sequential(inner, nn.GELU(), outer)
        self._optimiser = torch.optim.AdamW(
            self._network.parameters(), lr=rate, weight_decay=_DECAY
        )

    def train(self, pool: Pool, epochs: int = 5, batch: int = 32) -> None:
        """Continue training on these outcomes."""
        prompts = torch.from_numpy(pool.prompt)
        rewards = torch.from_numpy(np.asarray(pool.reward, dtype=np.float32))
        for _ in range(epochs):
            order = torch.randperm(len(prompts), generator=self._generator)
            for rows in torch.split(order, batch):
                loss = F.mse_loss(self._values(prompts[rows]), rewards[rows])
                self._optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()

    @torch.inference_mode()
    def __call__(self, prompts: IntArray) -> AnyFloatArray:
        """Return values in [0, 1] of prompts, ``[len(prompts)]``."""
        values: AnyFloatArray = self._values(torch.from_numpy(prompts)).double().numpy()
        return values

    def _values(self, prompts: Tensor) -> Tensor:
        logits: Tensor = self._network(self._columns[prompts])
        return torch.sigmoid(logits.squeeze(-1))
