"""The composite objective of the in-context head (Eq. 7 and 8)."""

import torch
import torch.nn.functional as F
from torch import Tensor

ALPHA = 0.25
"""Weight of the ranking term in the paper."""


def rank_loss(logits: Tensor, rewards: Tensor) -> Tensor:
    """Bradley-Terry loss on pairs of one context with opposite labels (Eq. 7).

    A bias shared by all queries of a context cancels (Theorem 4.2).

    Args:
        logits: ``[B, Q]``.
        rewards: ``[B, Q]`` in [0, 1]; a success is a reward of at least one half.

    Returns:
        Mean over contexts of the mean over pairs; contexts without a pair add zero.
    """
    success = (rewards >= 0.5).to(logits.dtype)
    pairs = success.unsqueeze(2) * (1.0 - success).unsqueeze(1)
    difference = logits.unsqueeze(2) - logits.unsqueeze(1)
    losses = (F.softplus(-difference) * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1.0)
    return losses.mean()


def composite_loss(logits: Tensor, rewards: Tensor, alpha: float = ALPHA) -> Tensor:
    """Blend both losses: alpha * L_rank + (1 - alpha) * L_CE against soft rewards (Eq. 8)."""
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in [0, 1], not {alpha}")
    entropy = F.binary_cross_entropy_with_logits(logits, rewards)
    total: torch.Tensor = alpha * rank_loss(logits, rewards) + (1.0 - alpha) * entropy
    return total
