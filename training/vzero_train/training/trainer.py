"""Meta-training of the in-context head on cached features."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vzero_server.model.in_context_head import InContextHead
from vzero_server.types import AnyFloatArray
from vzero_train.data.outcomes import Pool
from vzero_train.training.episodes import Episodes
from vzero_train.training.losses import composite_loss
from vzero_train.training.state import write_state


@dataclass(frozen=True)
class TrainerConfig:
    """How a head is trained.

    Attributes:
        steps: Optimiser steps.
        contexts: Contexts per step.
        queries: Queries per context.
        smallest: Fewest rows of a context, except for one context in twenty.
        largest: Most rows of a context; sizes are log-uniform in between.
        synthetic: Share of synthetic policies.
        dropped: Share of projected columns hidden from skills and traits, per context.
        alpha: Weight of the ranking loss (Eq. 8).
        rate: Peak learning rate of matrices; vectors learn five times, ``hold`` a hundred
            times as fast.
        decay: Weight decay of matrices.
        warmup: Steps until the peak.
        clip: Largest norm of the gradient.
        save_every: Steps between two resumable states.
        seed: Seed of weights and draws.
    """

    steps: int = 2000
    contexts: int = 8
    queries: int = 64
    smallest: int = 16
    largest: int = 388
    synthetic: float = 0.5
    dropped: float = 0.5
    alpha: float = 0.25
    rate: float = 1e-3
    decay: float = 0.05
    warmup: int = 50
    clip: float = 1.0
    save_every: int = 500
    seed: int = 0


class Trainer:
    """Trains one head; a training can be stopped and resumed.

    Attributes:
        head: The head, changed in place.
        step: Finished optimiser steps.
    """

    def __init__(
        self,
        head: InContextHead,
        pools: Sequence[Pool],
        features: AnyFloatArray,
        config: TrainerConfig,
        *,
        device: str = "cpu",
    ) -> None:
        """Initialize.

        Args:
            head: A head with fitted projection.
            pools: Training outcomes.
            features: Features of all prompts of the pools, ``[prompts, head.config.features]``.
            config: The recipe.
            device: Torch device; on CUDA the features are kept there and mixed precision is
                used for the feature map.
        """
        self.head = head.to(device)
        self.step = 0
        self._config = config
        self._device = device
        with torch.no_grad():
            chunks = torch.split(torch.from_numpy(features), 4096)
            projected = [head.project(chunk.to(device).float()) for chunk in chunks]
        self._projected = torch.cat(projected)
        self._rng = np.random.default_rng(config.seed)
        sizes = [group.components for group in head.config.groups]
        blocks = [block.cpu().half().numpy() for block in torch.split(self._projected, sizes, -1)]
        self._episodes = Episodes(pools, blocks, synthetic=config.synthetic, rng=self._rng)
        self._optimiser = torch.optim.AdamW(
            _parameter_groups(head, config), lr=config.rate, betas=(0.9, 0.98)
        )
        self._peaks = [group["lr"] for group in self._optimiser.param_groups]

    def train(
        self,
        *,
        state: Path | None = None,
        on_step: Callable[[int, float], None] | None = None,
    ) -> None:
        """Train to the end of the recipe.

        Args:
            state: File that is written every ``save_every`` steps, and read on start if it
                exists.
            on_step: Called after every step with the step and its loss.
        """
        if state is not None and state.is_file():
            self._restore(torch.load(state, weights_only=False))
        self.head.train()
        while self.step < self._config.steps:
            loss = self._one_step()
            self.step += 1
            if on_step:
                on_step(self.step, loss)
            if state is not None and self.step % self._config.save_every == 0:
                write_state(state, self._state())
        self.head.eval()

    def _one_step(self) -> float:
        config = self._config
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self._schedule()
        size = self._context_size()
        prompts, rewards = self._episodes.batch(config.contexts, size, config.queries)
        loss = self._loss(
            self._projected[torch.from_numpy(prompts).to(self._device)],
            torch.from_numpy(rewards).to(self._device),
            size,
        )
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), config.clip)
        self._optimiser.step()
        return loss.item()

    def _loss(self, projected: Tensor, rewards: Tensor, size: int) -> Tensor:
        dropped = self._config.dropped
        shape = (len(projected), 1, projected.shape[-1])
        keep = (torch.rand(shape, device=projected.device) >= dropped).float() / (1.0 - dropped)
        with torch.autocast("cuda", torch.bfloat16, enabled=self._device.startswith("cuda")):
            rows = self.head.read(projected, keep)
        rows = rows.float()
        context = self.head.encode(rows[:, :size], rewards[:, :size])
        logits = self.head.predict(context, rows[:, size:])
        return composite_loss(logits, rewards[:, size:], self._config.alpha)

    def _context_size(self) -> int:
        config = self._config
        if self._rng.random() < 0.05:
            return int(self._rng.integers(0, config.smallest))
        low, high = math.log2(config.smallest), math.log2(config.largest)
        return int(2 ** self._rng.uniform(low, high))

    def _schedule(self) -> float:
        """Cosine decay with a linear warm-up, never below one hundredth."""
        config = self._config
        rise = min(1.0, (self.step + 1) / config.warmup)
        fall = 0.5 + 0.5 * math.cos(math.pi * self.step / config.steps)
        return max(rise * fall, 0.01)

    def _state(self) -> dict[str, Any]:
        return {
            "config": asdict(self._config),
            "step": self.step,
            "head": self.head.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "numpy": self._rng.bit_generator.state,
            "torch": torch.get_rng_state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["config"] != asdict(self._config):
            raise ValueError("the saved state belongs to another recipe")
        self.step = state["step"]
        self.head.load_state_dict(state["head"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rng.bit_generator.state = state["numpy"]
        torch.set_rng_state(state["torch"])


def _parameter_groups(head: InContextHead, config: TrainerConfig) -> list[dict[str, Any]]:
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in head.named_parameters():
        if name == "hold":
            continue
        small = parameter.dim() < 2 or name == "amplitude"
        (vectors if small else matrices).append(parameter)
    return [
        {"params": matrices, "weight_decay": config.decay},
        {"params": vectors, "weight_decay": 0.0, "lr": 5.0 * config.rate},
        {"params": [head.hold], "weight_decay": 0.0, "lr": 100.0 * config.rate},
    ]
