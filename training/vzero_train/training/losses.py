"""The composite objective (Eq. 7 and 8) and what Table 5 compares it with."""

from collections.abc import Callable, Mapping
from enum import StrEnum

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


def soft_entropy_loss(logits: Tensor, rewards: Tensor) -> Tensor:
    """Cross-entropy against soft rewards alone; both ``[B, Q]``.

    It rewards knowing the context's mean, whatever the query (Theorem 4.1).
    """
    return F.binary_cross_entropy_with_logits(logits, rewards)


def rank_across_loss(logits: Tensor, rewards: Tensor) -> Tensor:
    """Bradley-Terry loss on all pairs with opposite labels, within contexts and across them.

    A bias of one context does not cancel in its pairs with another: Theorem 4.2 does not hold.

    Args:
        logits: ``[B, Q]``.
        rewards: ``[B, Q]`` in [0, 1]; a success is a reward of at least one half.

    Returns:
        Mean over pairs; zero where there is none.
    """
    return rank_loss(logits.reshape(1, -1), rewards.reshape(1, -1))


class Objective(StrEnum):
    """The objectives of Table 5."""

    SOFT_ENTROPY = "soft-ce"
    RANK = "pairs-intra"
    RANK_ACROSS = "pairs-intra-inter"
    COMPOSITE = "pairs-intra-soft-ce"


Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Mapping[Objective, Loss] = {
    Objective.SOFT_ENTROPY: soft_entropy_loss,
    Objective.RANK: rank_loss,
    Objective.RANK_ACROSS: rank_across_loss,
    Objective.COMPOSITE: composite_loss,
}
"""Each takes logits and rewards, both ``[B, Q]``, and gives a scalar."""
