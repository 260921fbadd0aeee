"""Matrix factorisation of policies and prompts, in the form of EmbedLLM."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vzero_server.types import AnyFloatArray, FloatArray, IntArray
from vzero_train.evaluation.routers import Task

_WIDTHS = (8, 32)
_DECAYS = (1e-2, 1.0)
_RATE = 1e-2
_EPOCHS, _BATCH = 30, 64
# Share of the known prompts that choose the width, the decay and the number of epochs.
_VALIDATION = 0.2


class Factorisation:
    """A vector for each policy, a linear map of embeddings, a classifier of their product.

    The logit of success is a linear function of u_p * (W e(x)), element by element. As in
    EmbedLLM all policies share W and the classifier; the width, the weight decay and the number
    of epochs are chosen on a fifth of the known prompts; then it is trained on all of them.
    """

    def __init__(self, embeddings: AnyFloatArray) -> None:
        """Store embeddings of all prompts, ``[prompts, d]``, of length 1."""
        scale = embeddings.shape[1] ** 0.5
        self._columns = torch.from_numpy((embeddings * scale).astype(np.float32))

    def __call__(self, task: Task) -> FloatArray:
        """See ``Router``."""
        order = np.random.default_rng(task.seed).permutation(len(task.known))
        apart = max(1, int(_VALIDATION * len(order)))
        inner, outer = order[apart:], order[:apart]
        best = (np.inf, _WIDTHS[0], _DECAYS[0], 1)
        for width in _WIDTHS:
            for decay in _DECAYS:
                model = _Model(self._columns.shape[1], task.rewards.shape[1], width, task.seed)
                trained = Task(task.known[inner], task.rewards[inner], task.asked, task.seed)
                for epoch in self._epochs(model, trained, decay, _EPOCHS):
                    values = self._values(model, task.known[outer])
                    error = float(((values - task.rewards[outer]) ** 2).mean())
                    best = min(best, (error, width, decay, epoch))
        _, width, decay, epochs = best
        model = _Model(self._columns.shape[1], task.rewards.shape[1], width, task.seed)
        for _ in self._epochs(model, task, decay, epochs):
            pass
        return self._values(model, task.asked)

    def _epochs(self, model: "_Model", task: Task, decay: float, epochs: int) -> Iterator[int]:
        """Train, and yield the number of each finished epoch."""
        generator = torch.Generator().manual_seed(task.seed)
        optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=decay)
        columns = self._columns[torch.from_numpy(task.known)]
        rewards = torch.from_numpy(task.rewards).float()
        for epoch in range(1, epochs + 1):
            order = torch.randperm(len(columns), generator=generator)
            for rows in torch.split(order, _BATCH):
                loss = F.binary_cross_entropy_with_logits(model(columns[rows]), rewards[rows])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            yield epoch

    @torch.inference_mode()
    def _values(self, model: "_Model", prompts: IntArray) -> FloatArray:
        values: FloatArray = (
            torch.sigmoid(model(self._columns[torch.from_numpy(prompts)])).double().numpy()
        )
        return values


class _Model(nn.Module):
    def __init__(self, columns: int, policies: int, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.prompts = nn.Linear(columns, width)
        self.policies = nn.Parameter(torch.randn(policies, width, generator=generator))
        self.classifier = nn.Linear(width, 1)
        self.ability = nn.Parameter(torch.zeros(policies))
        with torch.no_grad():
            for layer in (self.prompts, self.classifier):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.zero_()

    def forward(self, columns: Tensor) -> Tensor:
        """Return logits ``[n, P]`` of columns ``[n, d]``."""
        products = self.prompts(columns).unsqueeze(1) * self.policies
        logits: Tensor = self.classifier(products).squeeze(-1) + self.ability
        return logits
