import pytest
import torch

from research.connectors.objectives import LOSSES, Objective, rank_across_loss, soft_entropy_loss
from tests.training.test_losses import BIAS, LOGITS, REWARDS, entropy, softplus
from vzero_train.training.losses import rank_loss


def test_soft_entropy_by_hand() -> None:
    assert soft_entropy_loss(LOGITS, REWARDS).item() == pytest.approx(entropy())


def test_pairs_across_contexts_by_hand() -> None:
    # Successes 1.0 and 2.0 against failures -1.0 and 0.5, in any order.
    expected = (softplus(-2.0) + softplus(-0.5) + softplus(-3.0) + softplus(-1.5)) / 4
    assert rank_across_loss(LOGITS, REWARDS).item() == pytest.approx(expected)


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
