"""Contexts with rows of several steps, of policies that learn and policies that do not."""

import pytest
import torch
from torch import Tensor

from tests.model.test_in_context_head import CONFIG, TOLERANCE, make_context, make_head
from vzero_server.model.closed_form import fit_experts
from vzero_server.model.drift import DriftKernel
from vzero_server.model.head_state import HeadState
from vzero_server.model.in_context_head import InContextHead

ROWS, STEPS = 400, 10


@pytest.fixture(scope="module")
def head() -> InContextHead:
    return make_head()


def learner(drift: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features, rewards and ages of a policy that gains ``drift`` in logits along ten steps."""
    features, _ = make_context(ROWS, seed)
    step = torch.arange(ROWS) * STEPS // ROWS
    level = drift * (step / (STEPS - 1) - 0.5)
    generator = torch.Generator().manual_seed(1000 + seed)
    rewards = (torch.rand(ROWS, generator=generator) < torch.sigmoid(level)).float()
    ages = (STEPS - 1 - step) * (ROWS // STEPS)
    return features, rewards.unsqueeze(0), ages.float().unsqueeze(0)


@torch.inference_mode()
def test_order_matters_through_ages_alone(head: InContextHead) -> None:
    features, rewards, ages = learner(3.0)
    queries, order = make_context(8, 2)[0], torch.randperm(ROWS)
    shuffled = head(features[:, order], rewards[:, order], queries, ages=ages[:, order])
    ordered = head(features, rewards, queries, ages=ages)
    torch.testing.assert_close(shuffled, ordered, atol=TOLERANCE, rtol=0.0)
    assert (ordered - head(features, rewards, queries)).abs().min() > 0.1


@torch.inference_mode()
def test_padding_does_not_matter() -> None:
    # In double precision: the blocks of a matrix product depend on its size, and so does rounding.
    head = make_head().double()
    features, rewards, ages = (column.double() for column in learner(3.0))
    queries = make_context(8, 2)[0].double()
    padding = torch.full((1, 25), float("nan"), dtype=torch.float64)
    padded = torch.cat([features, 100.0 * torch.randn(1, 25, CONFIG.features)], 1)
    mask = torch.arange(ROWS + 25).unsqueeze(0) < ROWS
    rewards_padded, ages_padded = (torch.cat([column, padding], 1) for column in (rewards, ages))
    torch.testing.assert_close(
        head(padded, rewards_padded, queries, mask, ages_padded),
        head(features, rewards, queries, ages=ages),
        atol=1e-10,
        rtol=0.0,
    )


@pytest.mark.parametrize("age", [0.0, 700.0])
@torch.inference_mode()
def test_equal_ages_equal_no_ages(head: InContextHead, age: float) -> None:
    features, rewards, ages = learner(3.0)
    queries = make_context(8, 2)[0]
    same = head(features, rewards, queries, ages=torch.full_like(ages, age))
    torch.testing.assert_close(same, head(features, rewards, queries), atol=0.0, rtol=0.0)


@torch.inference_mode()
def test_values_of_a_learning_policy_follow_its_present_level(head: InContextHead) -> None:
    truth = torch.sigmoid(torch.tensor(1.5))
    known, unknown = [], []
    for seed in range(5):
        features, rewards, ages = learner(3.0, seed)
        queries = make_context(64, 100 + seed)[0]
        known.append((torch.sigmoid(head(features, rewards, queries, ages=ages)) - truth).square())
        unknown.append((torch.sigmoid(head(features, rewards, queries)) - truth).square())
    assert torch.cat(known).mean() < 0.6 * torch.cat(unknown).mean()


@pytest.mark.long
@torch.inference_mode()
def test_ages_hardly_change_values_of_a_stable_policy(head: InContextHead) -> None:
    changes = []
    for seed in range(20):
        features, rewards, ages = learner(0.0, seed)
        queries = make_context(16, 100 + seed)[0]
        known, unknown = (
            torch.sigmoid(head(features, rewards, queries, ages=given)) for given in (ages, None)
        )
        changes.append(float((known - unknown).abs().max()))
    assert sum(change == 0.0 for change in changes) >= 15
    assert max(changes) < 0.06


@torch.inference_mode()
def test_contexts_with_and_without_drift_share_a_batch(head: InContextHead) -> None:
    queries = head.rows(make_context(4, 2)[0])
    given = [learner(drift, seed) for seed, drift in enumerate((3.0, 0.0, -3.0))]
    rows = [head.rows(features) for features, _, _ in given]
    alone = [
        head.encode(row, rewards, ages=ages)
        for row, (_, rewards, ages) in zip(rows, given, strict=True)
    ]
    together = head.encode(
        torch.cat(rows),
        torch.cat([rewards for _, rewards, _ in given]),
        ages=torch.cat([ages for _, _, ages in given]),
    )
    expected = torch.cat([head.predict(context, queries) for context in alone])
    several = queries.expand(3, -1, -1)
    for logits in (
        head.predict(together, several),
        head.predict(HeadState.stack(alone), several),
        head.predict_many(alone, several),
    ):
        torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)
    # Logits of several units in float32: how a batch of three is rounded depends on the processor.
    torch.testing.assert_close(
        together.loo_logits,
        torch.cat([context.loo_logits for context in alone]),
        atol=TOLERANCE,
        rtol=TOLERANCE,
    )


def test_leave_one_out_predictions_with_drift_equal_a_fit_without_the_row() -> None:
    _, rewards, ages = learner(3.0)
    targets, ages = (rewards[:, ::8] - 0.5).double(), ages[:, ::8].double()
    mask = torch.ones_like(targets, dtype=torch.bool)
    gram = 0.1 * DriftKernel.of(ages, mask).gram
    noise = torch.tensor([[2.0]]).double()
    _, loo_logits = fit_experts(gram.unsqueeze(1), targets.unsqueeze(1), noise, mask)
    for row in (0, 17, 49):
        others = torch.arange(50) != row
        less = gram[:, others][:, :, others]
        dual, _ = fit_experts(
            less.unsqueeze(1), targets[:, others].unsqueeze(1), noise, mask[:, others]
        )
        expected = (gram[0, row, others] * dual[0, 0]).sum()
        torch.testing.assert_close(loo_logits[0, 0, row], expected, atol=1e-9, rtol=0.0)


@pytest.mark.parametrize("age", [-1.0, float("nan"), float("inf")])
def test_ages_must_be_finite_and_not_negative(head: InContextHead, age: float) -> None:
    features, rewards = make_context(5)
    ages = torch.zeros(1, 5)
    ages[0, 3] = age
    with pytest.raises(ValueError, match="ages must be finite and at least 0"):
        head(features, rewards, features, ages=ages)
    with pytest.raises(ValueError, match="ages must be"):
        head(features, rewards, features, ages=ages[:, :4])
