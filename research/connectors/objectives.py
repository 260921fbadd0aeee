"""The objectives that Table 5 of the paper compares."""

from collections.abc import Callable, Mapping
from enum import StrEnum

import torch.nn.functional as F
from torch import Tensor

from vzero_train.training.losses import composite_loss, rank_loss


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
