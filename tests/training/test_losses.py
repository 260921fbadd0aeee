import math

import pytest
import torch

from vzero_train.training.losses import ALPHA, composite_loss, rank_loss

# Two contexts: success, failure; failure, success, the latter a soft one.
LOGITS = torch.tensor([[1.0, -1.0], [0.5, 2.0]], dtype=torch.float64)
REWARDS = torch.tensor([[1.0, 0.0], [0.2, 0.7]], dtype=torch.float64)
BIAS = torch.tensor([[3.0], [-2.0]], dtype=torch.float64)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def entropy() -> float:
    cells = zip(LOGITS.flatten().tolist(), REWARDS.flatten().tolist(), strict=True)
    return sum(softplus(s) - r * s for s, r in cells) / 4


def pairs_within() -> float:
    return (softplus(-2.0) + softplus(-1.5)) / 2


def test_pairs_within_contexts_by_hand() -> None:
    assert rank_loss(LOGITS, REWARDS).item() == pytest.approx(pairs_within())


def test_the_composite_by_hand() -> None:
    expected = ALPHA * pairs_within() + (1.0 - ALPHA) * entropy()
    assert composite_loss(LOGITS, REWARDS).item() == pytest.approx(expected)
    assert composite_loss(LOGITS, REWARDS, 1.0).item() == pytest.approx(pairs_within())
