import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vzero_server.model.head_config import Group, HeadConfig
from vzero_server.model.head_state import HeadState
from vzero_server.model.in_context_head import MAX_ROWS, InContextHead

CONFIG = HeadConfig(
    groups=(Group("layer2", 12, 6), Group("layer4", 12, 6), Group("text", 5, 5)),
    skills=4,
    traits=3,
    hidden=8,
)
TOLERANCE = 1e-5


def make_head(seed: int = 0) -> InContextHead:
    """A head in which every parameter matters."""
    torch.manual_seed(seed)
    head = InContextHead(CONFIG).eval()
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name != "hold":
                parameter.add_(0.2 * torch.randn_like(parameter))
    return head


def make_context(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(1, count, CONFIG.features, generator=generator)
    rewards = (torch.rand(1, count, generator=generator) > 0.4).float()
    return features, rewards


@pytest.fixture(scope="module")
def head() -> InContextHead:
    return make_head()


@pytest.fixture(scope="module")
def queries() -> Tensor:
    return make_context(8, seed=2)[0]


@torch.inference_mode()
def test_order_of_rows_does_not_matter(head: InContextHead, queries: Tensor) -> None:
    features, rewards = make_context(100)
    order = torch.randperm(100)
    shuffled = head(features[:, order], rewards[:, order], queries)
    torch.testing.assert_close(shuffled, head(features, rewards, queries), atol=TOLERANCE, rtol=0.0)


@torch.inference_mode()
def test_padding_does_not_matter(head: InContextHead, queries: Tensor) -> None:
    features, rewards = make_context(40)
    padded = torch.cat([features, 100.0 * torch.randn(1, 25, CONFIG.features)], 1)
    nothing = torch.cat([rewards, torch.full((1, 25), float("nan"))], 1)
    mask = torch.arange(65).unsqueeze(0) < 40
    torch.testing.assert_close(
        head(padded, nothing, queries, mask),
        head(features, rewards, queries),
        atol=TOLERANCE,
        rtol=0.0,
    )


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(0, 60), min_size=1, max_size=5), seed=st.integers(0, 1000))
@torch.inference_mode()
def test_many_contexts_in_one_call_equal_each_alone(sizes: list[int], seed: int) -> None:
    head = make_head(seed)
    contexts = [make_context(size, seed + i) for i, size in enumerate(sizes)]
    queries = make_context(4, seed + 99)[0]
    rows = head.rows(queries)
    contexts_read = [head.encode(head.rows(features), rewards) for features, rewards in contexts]
    together = head.predict(HeadState.stack(contexts_read), rows.expand(len(sizes), -1, -1))
    alone = torch.cat([head(features, rewards, queries) for features, rewards in contexts])
    torch.testing.assert_close(together, alone, atol=TOLERANCE, rtol=0.0)


@torch.inference_mode()
def test_queries_are_independent(head: InContextHead, queries: Tensor) -> None:
    features, rewards = make_context(30)
    first = head(features, rewards, queries[:, :1])
    torch.testing.assert_close(
        first, head(features, rewards, queries)[:, :1], atol=TOLERANCE, rtol=0.0
    )


@pytest.mark.parametrize("count", [0, 1, 2, MAX_ROWS])
@torch.inference_mode()
def test_any_number_of_rows(head: InContextHead, queries: Tensor, count: int) -> None:
    logits = head(*make_context(count), queries)
    assert logits.shape == (1, 8)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("reward", [0.0, 0.5, 1.0])
@torch.inference_mode()
def test_equal_rewards_give_values_close_to_them(
    head: InContextHead, queries: Tensor, reward: float
) -> None:
    features, rewards = make_context(50)
    values = torch.sigmoid(head(features, torch.full_like(rewards, reward), queries))
    assert torch.isfinite(values).all()
    assert (values.mean() - reward).abs() < 0.25


@torch.inference_mode()
def test_duplicate_prompts_get_their_mean_reward(head: InContextHead) -> None:
    features, _ = make_context(1)
    same = features.expand(1, 64, -1)
    rewards = (torch.arange(64) % 2).float().unsqueeze(0)
    value = torch.sigmoid(head(same, rewards, features))
    torch.testing.assert_close(value, torch.full((1, 1), 0.5), atol=1e-3, rtol=0.0)


@torch.inference_mode()
def test_soft_rewards_give_less_extreme_values(head: InContextHead, queries: Tensor) -> None:
    features, rewards = make_context(60)
    soft = head(features, 0.5 + 0.4 * (rewards - 0.5), queries)
    hard = head(features, rewards, queries)
    assert soft.std() < hard.std()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_must_be_finite(head: InContextHead, queries: Tensor, value: float) -> None:
    features, rewards = make_context(5)
    features[0, 2, 3] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        head(features, rewards, queries)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5])
def test_rewards_must_be_in_the_unit_interval(
    head: InContextHead, queries: Tensor, value: float
) -> None:
    features, rewards = make_context(5)
    rewards[0, 1] = value
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        head(features, rewards, queries)


def test_wrong_shapes_are_named(head: InContextHead, queries: Tensor) -> None:
    features, rewards = make_context(5)
    with pytest.raises(ValueError, match="28 columns"):
        head(features[..., :-1], rewards, queries)
    rows = head.rows(features)
    with pytest.raises(ValueError, match="like the rows"):
        head.encode(rows, rewards[:, :-1])
    with pytest.raises(ValueError, match="at most 2048"):
        head.encode(rows[:, :1].expand(1, MAX_ROWS + 1, -1), torch.ones(1, MAX_ROWS + 1))
    with pytest.raises(ValueError, match="query rows"):
        head.predict(head.encode(rows, rewards), rows[0])


@torch.inference_mode()
def test_one_context_can_be_taken_from_a_batch(head: InContextHead, queries: Tensor) -> None:
    features, rewards = make_context(20)
    rows = head.rows(features)
    both = head.encode(rows.expand(2, -1, -1), torch.cat([rewards, 1.0 - rewards]))
    assert len(both) == 2
    assert both[1].nbytes * 2 == both.nbytes
    torch.testing.assert_close(
        head.predict(both[1], head.rows(queries)),
        head(features, 1.0 - rewards, queries),
        atol=TOLERANCE,
        rtol=0.0,
    )


def test_the_closed_forms_can_be_trained(head: InContextHead, queries: Tensor) -> None:
    trained = make_head().train()
    features, rewards = make_context(30)
    trained(features, rewards, queries).sum().backward()
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
