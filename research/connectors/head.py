"""The head behind a connector: its pre-training, and the steps it shares with the connector's.

In the paper the head is TabPFN, pre-trained and, in the best variant, frozen (Table 6). Its part
is played by an ``InContextHead`` with the connector's columns as its one group of features, which
``pretrain_head`` teaches on pooled states, seen through a new random projection at every step:
like TabPFN it cannot know columns by name, and reads whatever columns a connector gives it.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from research.connectors.config import ConnectorConfig
from research.connectors.objectives import LOSSES
from research.connectors.stages import TrainingStage, draw_contexts, usable_stages
from research.connectors.token_states import TokenStates
from vzero_server.model.head_config import Group, HeadConfig
from vzero_server.model.in_context_head import InContextHead

_SKILLS, _TRAITS, _HIDDEN, _EXPERTS = 16, 16, 64, 3
_PRETRAINING_RATE = 0.01  # kernels and trust are few numbers that have far to go


class ConnectorHead(Protocol):
    """What training asks of the head behind a connector: ``InContextHead``'s three steps."""

    def rows(self, features: Tensor) -> Tensor:
        """What is read of features ``[..., columns]``."""

    def encode(self, rows: Tensor, rewards: Tensor) -> Any:  # noqa: ANN401
        """Contexts of rows ``[B, N, row]`` and rewards ``[B, N]``."""

    def predict(self, context: Any, queries: Tensor) -> Tensor:  # noqa: ANN401
        """Logits ``[B, M]`` of queries ``[B, M, row]``."""


def pretrain_head(
    stages: Sequence[TrainingStage], states: TokenStates, config: ConnectorConfig
) -> InContextHead:
    """A head that has learned to read columns, without knowing any of them.

    Trained on the pooled states of the same stages for ``config.pretraining`` steps. At
    every step they go through another random projection, to as many columns as the connector
    has. What is left to learn is what holds of any columns: kernels, noise and trust.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    usable = usable_stages(stages, config.rows)
    pooled = config.connector == "pooled"
    columns = states.hidden if pooled else config.queries * config.width
    head = InContextHead(
        HeadConfig((Group("connector", columns, columns),), _SKILLS, _TRAITS, _HIDDEN, _EXPERTS)
    )
    parameters = list(head.parameters())
    optimiser = torch.optim.AdamW(parameter_groups(parameters, config.decay))
    for step in range(config.pretraining):
        for group in optimiser.param_groups:
            group["lr"] = _PRETRAINING_RATE * schedule(step, config.pretraining, config.warmup)
        prompts, rewards = draw_contexts(usable, config, rng)
        view = torch.randn(states.hidden, columns) / columns**0.5
        features = torch.from_numpy(states.pooled[prompts]).float() @ view
        loss = objective_loss(head, features, torch.from_numpy(rewards), config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimiser.step()
    return head.eval()


def objective_loss(
    head: ConnectorHead, features: Tensor, rewards: Tensor, config: ConnectorConfig
) -> Tensor:
    """The objective on the queries, which follow the context's rows in ``[B, rows + asked]``."""
    rows, size = head.rows(features), config.rows
    logits = head.predict(head.encode(rows[:, :size], rewards[:, :size]), rows[:, size:])
    return LOSSES[config.objective](logits, rewards[:, size:])


def parameter_groups(parameters: Sequence[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """No weight decay on biases, norms and other vectors."""
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def schedule(step: int, steps: int, warmup: float) -> float:
    """Cosine decay with a linear warm-up."""
    rise = min(1.0, (step + 1) / max(1.0, warmup * steps))
    return rise * (0.5 + 0.5 * math.cos(math.pi * step / steps))
