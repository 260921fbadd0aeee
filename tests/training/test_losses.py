import math

import pytest
import torch

from vzero_train.training.losses import (
    ALPHA,
    LOSSES,
    Objective,
    composite_loss,
    rank_across_loss,
    rank_loss,
    soft_entropy_loss,
)

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


def test_soft_entropy_by_hand() -> None:
    assert soft_entropy_loss(LOGITS, REWARDS).item() == pytest.approx(entropy())


def test_pairs_within_contexts_by_hand() -> None:
    assert rank_loss(LOGITS, REWARDS).item() == pytest.approx(pairs_within())


def test_pairs_across_contexts_by_hand() -> None:
    # Successes 1.0 and 2.0 against failures -1.0 and 0.5, wherever they stand.
    expected = (softplus(-2.0) + softplus(-0.5) + softplus(-3.0) + softplus(-1.5)) / 4
    assert rank_across_loss(LOGITS, REWARDS).item() == pytest.approx(expected)


def test_the_composite_by_hand() -> None:
    expected = ALPHA * pairs_within() + (1.0 - ALPHA) * entropy()
    assert composite_loss(LOGITS, REWARDS).item() == pytest.approx(expected)
    assert composite_loss(LOGITS, REWARDS, 1.0).item() == pytest.approx(pairs_within())


def gradient(name: Objective, bias: torch.Tensor) -> torch.Tensor:
    logits = LOGITS.clone().requires_grad_()
    LOSSES[name](logits + bias, REWARDS).backward()
    assert logits.grad is not None
    return logits.grad


def test_a_bias_of_a_context_cancels_within_it() -> None:
    """Theorem 4.2, for the gradient as for the loss."""
    torch.testing.assert_close(rank_loss(LOGITS + BIAS, REWARDS), rank_loss(LOGITS, REWARDS))
    one, other = gradient(Objective.RANK, BIAS), gradient(Objective.RANK, 0.0 * BIAS)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", [name for name in Objective if name != Objective.RANK])
def test_a_bias_of_a_context_does_not_cancel_elsewhere(name: Objective) -> None:
    shifted = LOSSES[name](LOGITS + BIAS, REWARDS)
    assert abs(shifted - LOSSES[name](LOGITS, REWARDS)).item() > 0.1
    assert (gradient(name, BIAS) - gradient(name, 0.0 * BIAS)).abs().max() > 0.01


def test_a_bias_of_all_contexts_cancels_across_them() -> None:
    torch.testing.assert_close(
        rank_across_loss(LOGITS + 3.0, REWARDS), rank_across_loss(LOGITS, REWARDS)
    )


def test_every_objective_has_a_loss() -> None:
    assert set(LOSSES) == set(Objective)
    assert LOSSES[Objective("soft-ce")] is soft_entropy_loss


def test_without_a_pair_there_is_nothing_to_rank() -> None:
    assert rank_across_loss(LOGITS, torch.ones_like(REWARDS)).item() == 0.0
