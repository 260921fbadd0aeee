"""An adapter trained before a frozen TabPFN: a real network, small and of random weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_tabpfn import save_tiny_tabpfn
from tests.training.test_connector import CONFIG, make_outcomes, make_states, make_trainer
from vzero_server.model.adapter import ResidualQueryAdapter
from vzero_server.model.adapter_file import AdapterFile, read_adapter, save_adapter
from vzero_server.model.tabpfn import TabPFNHead
from vzero_server.model.tabpfn_file import read_tabpfn
from vzero_train.training.tabpfn_head import FrozenTabPFN

COLUMNS = CONFIG.queries * CONFIG.width


@pytest.fixture
def head(tmp_path: Path) -> FrozenTabPFN:
    path = save_tiny_tabpfn(tmp_path / "head.ckpt")
    return FrozenTabPFN(TabPFNHead(read_tabpfn(path), columns=COLUMNS, members=2))


def test_training_lowers_the_loss_and_leaves_tabpfn_alone(head: FrozenTabPFN) -> None:
    losses: list[float] = []
    trainer = make_trainer(replace(CONFIG, steps=40, check_every=40, rate=0.02), head=head)
    adapter = [p.detach().clone() for p in trainer.connector.parameters()]
    trainer.train(on_step=lambda _, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    for ours, given in zip(trainer.head.parameters(), head.parameters(), strict=True):
        assert torch.equal(ours, given)
    moved = zip(adapter, trainer.connector.parameters(), strict=True)
    assert trainer.best_step == 0 or any((a != b).any() for a, b in moved)
    values = trainer.values(make_outcomes(make_states())[1])
    assert all(((given > 0.0) & (given < 1.0)).all() for given in values)


def test_a_trained_adapter_is_written_for_serving(head: FrozenTabPFN, tmp_path: Path) -> None:
    trainer = make_trainer(replace(CONFIG, steps=2), head=head)
    trainer.train()
    adapter = trainer.connector
    assert isinstance(adapter, ResidualQueryAdapter)
    save_adapter(tmp_path / "own.safetensors", AdapterFile(adapter, {}, "").alone())
    read = read_adapter(tmp_path / "own.safetensors").adapter
    assert read.config == adapter.config
    for name, tensor in adapter.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor)


def test_tabpfn_is_not_tuned(head: FrozenTabPFN) -> None:
    with pytest.raises(ValueError, match="tune_head: TabPFN is trained frozen"):
        make_trainer(replace(CONFIG, tune_head=True), head=head)


def test_logits_are_those_of_the_joint_pass(head: FrozenTabPFN) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, COLUMNS, generator=generator)
    rewards = torch.rand(2, 9, generator=generator)
    logits = head.predict(head.encode(head.rows(features[:, :9]), rewards), features[:, 9:])
    labels = (rewards >= 0.5).long()
    expected = head._head(features[:, :9], labels, features[:, 9:]).softmax(-1)[..., 1]
    torch.testing.assert_close(torch.sigmoid(logits), expected)
