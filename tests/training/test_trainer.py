from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vzero_server.model.head_config import Group, HeadConfig
from vzero_server.model.in_context_head import InContextHead
from vzero_train.data.outcomes import Pool
from vzero_train.training.losses import composite_loss, rank_loss
from vzero_train.training.projection import fit_projection
from vzero_train.training.trainer import Trainer, TrainerConfig

CONFIG = TrainerConfig(
    steps=6, contexts=2, queries=8, smallest=4, largest=16, warmup=2, save_every=3
)


def make_trainer(config: TrainerConfig = CONFIG) -> Trainer:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 14)).astype(np.float16)
    rewards = (features[:, 0] > 0).astype(np.float32)
    pools = [Pool(f"p{i}", -1, "b", np.arange(200), rewards) for i in range(3)]
    torch.manual_seed(0)
    groups = (Group("layer", 10, 6), Group("text", 4, 4))
    head = InContextHead(HeadConfig(groups, skills=4, traits=3, hidden=8))
    fit_projection(head, features)
    return Trainer(head, pools, features, config)


def test_a_bias_of_the_context_does_not_change_the_ranking_loss() -> None:
    torch.manual_seed(0)
    logits, rewards = torch.randn(3, 8), (torch.rand(3, 8) > 0.5).float()
    torch.testing.assert_close(
        rank_loss(logits + torch.randn(3, 1), rewards), rank_loss(logits, rewards)
    )


def test_contexts_without_a_pair_add_nothing() -> None:
    logits = torch.randn(1, 4, requires_grad=True)
    rank_loss(logits, torch.ones(1, 4)).backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_the_weight_of_the_ranking_loss_is_a_share() -> None:
    with pytest.raises(ValueError, match="alpha"):
        composite_loss(torch.zeros(1, 2), torch.zeros(1, 2), 1.5)


def test_training_lowers_the_loss() -> None:
    losses: list[float] = []
    trainer = make_trainer(replace(CONFIG, steps=60, synthetic=0.0, smallest=16, dropped=0.0))
    trainer.train(on_step=lambda _, loss: losses.append(loss))
    assert np.mean(losses[-15:]) < np.mean(losses[:15])


def test_a_stopped_training_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    torch.manual_seed(1)
    whole = make_trainer()
    torch.manual_seed(1)
    whole.train()
    state = tmp_path / "state.pt"

    class StopError(Exception):
        pass

    def stop(step: int, _: float) -> None:
        if step == 4:
            raise StopError

    broken = make_trainer()
    torch.manual_seed(1)
    with pytest.raises(StopError):
        broken.train(state=state, on_step=stop)
    resumed = make_trainer()
    resumed.train(state=state)
    assert resumed.step == CONFIG.steps
    for one, other in zip(whole.head.parameters(), resumed.head.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_another_recipe_does_not_resume(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    make_trainer().train(state=state)
    with pytest.raises(ValueError, match="another recipe"):
        make_trainer(replace(CONFIG, alpha=0.5)).train(state=state)
