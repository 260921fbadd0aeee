"""The optimizers of a policy: Muon for the warm start, AdamW for GRPO."""

from collections.abc import Sequence

import torch

from research.policy_zoo.model import CharacterModel


class Optimizer:
    """Optimizers stepped together, each with its own rate, with gradients clipped to a norm of 1.

    Args:
        parts: Optimizers over disjoint weights, at their full learning rates.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        """Remember the full learning rates."""
        self._parts = [(part, float(part.param_groups[0]["lr"])) for part in parts]
        self._weights: list[torch.nn.Parameter] = [
            weight for part in parts for group in part.param_groups for weight in group["params"]
        ]

    def step(self, loss: torch.Tensor, scale: float = 1.0) -> None:
        """Descend the gradient of a scalar loss, with learning rates times ``scale`` (>= 0)."""
        for part, _ in self._parts:
            part.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        for part, rate in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * scale
            part.step()


def warm_start_optimizer(
    model: CharacterModel, rate: float = 1e-2, rest_rate: float = 3e-3
) -> Optimizer:
    """Muon for the block matrices, at ``rate`` in AdamW's range, and AdamW for the rest.

    Muon reaches a given loss in about half the steps of AdamW here, which is what makes a zoo of
    policies affordable on two processor cores.
    """
    matrices = [weight for weight in model.blocks.parameters() if weight.dim() == 2]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in chosen]
    return Optimizer(
        [
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rest_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]
    )


def grpo_optimizer(model: CharacterModel, rate: float = 1e-3) -> Optimizer:
    """AdamW for all weights: Muon's even-handed updates amplify the noise of policy gradients."""
    adam = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    return Optimizer([adam])
