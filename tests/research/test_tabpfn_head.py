"""A connector trained in front of a small TabPFN of random weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import vzero
from research.connectors.tabpfn_head import TabPFNConnectorHead, TabPFNStart
from research.connectors.trainer import Check, ConnectorTrainer
from tests.research.test_connector import CONFIG, HIDDEN, make_outcomes, make_states, make_trainer
from tests.tiny_qwen import save_tiny_qwen
from tests.tiny_tabpfn import save_tiny_tabpfn
from tests.training.interrupted import Stopped, stop_at
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.adapter import ResidualQueryAdapter
from vzero_server.paper.adapter_encoder import AdapterEncoder
from vzero_server.paper.adapter_file import AdapterFile, read_adapter, save_adapter
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import TabPFNFile, read_tabpfn, save_tabpfn
from vzero_server.paper.token_backbone import TokenBackbone
from vzero_server.testing.local_server import LocalServer

COLUMNS = CONFIG.queries * CONFIG.width


@pytest.fixture
def file(tmp_path: Path) -> TabPFNFile:
    return read_tabpfn(save_tiny_tabpfn(tmp_path / "head.ckpt"))


@pytest.fixture
def head(file: TabPFNFile) -> TabPFNConnectorHead:
    return TabPFNConnectorHead(file, columns=COLUMNS, members=2)


@pytest.mark.parametrize(("connector", "tabpfn"), [(True, False), (False, True), (True, True)])
def test_training_lowers_the_loss_and_moves_what_is_tuned(
    head: TabPFNConnectorHead, file: TabPFNFile, connector: bool, tabpfn: bool
) -> None:
    losses: list[float] = []
    trainer = make_trainer(
        replace(
            CONFIG, steps=40, check_every=40, rate=0.01, tune_connector=connector, tune_head=tabpfn
        ),
        head=head,
    )
    modules = {trainer.connector: connector, trainer.head: tabpfn}
    before = {module: [p.detach().clone() for p in module.parameters()] for module in modules}
    last: dict[torch.nn.Module, list[torch.Tensor]] = {}

    def keep(_: Check) -> None:
        last.update({m: [p.detach().clone() for p in m.parameters()] for m in modules})

    trainer.train(on_step=lambda _, loss: losses.append(loss), on_check=keep)
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    for module, moves in modules.items():
        pairs = zip(before[module], last[module], strict=True)
        assert any((a != b).any() for a, b in pairs) == moves
    # Training changes neither the given head nor its file.
    for given in (head, file.net):
        pairs = zip(before[trainer.head], given.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    values = trainer.values(make_outcomes(make_states())[1])
    assert all(((given > 0.0) & (given < 1.0)).all() for given in values)


def test_an_interrupted_tuning_run_ends_as_an_uninterrupted_one(
    head: TabPFNConnectorHead, tmp_path: Path
) -> None:
    config = replace(CONFIG, steps=6, check_every=2, tune_head=True)
    whole = make_trainer(config, head=head)
    whole.train()
    state = tmp_path / "state.pt"

    with pytest.raises(Stopped):
        make_trainer(config, head=head).train(state=state, on_step=stop_at(3))
    again = make_trainer(config, head=head)
    again.train(state=state)
    assert again.curve == whole.curve
    for name, weight in whole.head.state_dict().items():
        assert torch.equal(again.head.state_dict()[name], weight)


def test_logits_are_those_of_the_joint_pass(head: TabPFNConnectorHead) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, COLUMNS, generator=generator)
    rewards = torch.rand(2, 9, generator=generator)
    logits = head.predict(head.encode(head.rows(features[:, :9]), rewards), features[:, 9:])
    labels = (rewards >= 0.5).long()
    expected = head._head(features[:, :9], labels, features[:, 9:]).softmax(-1)[..., 1]
    torch.testing.assert_close(torch.sigmoid(logits), expected)


def test_a_context_of_one_class_trains_to_something_finite(head: TabPFNConnectorHead) -> None:
    """A stage may hold few successes, so that a context happens to have none."""
    head.requires_grad_(True)
    features = torch.randn(1, 12, COLUMNS, generator=torch.Generator().manual_seed(0))
    logits = head.predict(head.encode(features[:, :9], torch.zeros(1, 9)), features[:, 9:])
    assert torch.isfinite(logits).all()
    logits.sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.grad is not None)


def test_a_start_makes_heads_of_every_trained_number_of_columns(tmp_path: Path) -> None:
    limits = {"MAX_NUMBER_OF_FEATURES": 20}
    path = save_tiny_tabpfn(tmp_path / "small.ckpt", inference_config=limits)
    start = TabPFNStart.read(path, members=2)
    assert isinstance(start.head(20), TabPFNConnectorHead)
    with pytest.raises(CheckpointError, match="at most 20 feature columns, the adapter makes 21"):
        start.head(21)
    with pytest.raises(CheckpointError, match=r"missing.ckpt: no such file"):
        TabPFNStart.read(tmp_path / "missing.ckpt", members=2)


def trained(head: TabPFNConnectorHead) -> ConnectorTrainer:
    config = replace(CONFIG, steps=3, check_every=1, rate=0.02, tune_head=True)
    trainer = make_trainer(config, head=head)
    trainer.train()
    return trainer


def test_a_trained_head_is_served(
    head: TabPFNConnectorHead, file: TabPFNFile, tmp_path: Path
) -> None:
    """Adapter and tuned head are written, and a server answers with them over gRPC."""
    trainer = trained(head)
    adapter, tuned = trainer.connector, trainer.head
    assert isinstance(adapter, ResidualQueryAdapter)
    assert isinstance(tuned, TabPFNConnectorHead)
    backbone, adapter_path, head_path = (
        tmp_path / name for name in ("qwen", "own.safetensors", "own-head.safetensors")
    )
    save_tiny_qwen(backbone, hidden=HIDDEN)
    save_adapter(adapter_path, AdapterFile.of(adapter))
    save_tabpfn(head_path, tuned.file())
    profile = tmp_path / "own.toml"
    profile.write_text(
        f'backbone = "{backbone}"\nadapter = "{adapter_path}"\ntabpfn = "{head_path}"\n'
        'head = "none"\ncontext_rows = 32\n'
        # What the expected values are computed in; the default depends on the processor.
        'dtype = "float32"\ntabpfn_cache_dtype = "float32"\n'
    )
    generator = np.random.default_rng(0)
    prompts = [f"What is {a} plus {b}?" for a, b in generator.integers(0, 99, (20, 2))]
    rewards = np.arange(14) % 2.0
    with (
        LocalServer(tmp_path / "data", profile=profile) as server,
        vzero.Client(server.address) as client,
    ):
        client.update("run", prompts[:14], rewards)
        values = client.predict("run", prompts[14:], estimator="TABPFN")
    assert set(values.basis) == {"TABPFN"}
    # The written weights equal the trained ones.
    read = read_tabpfn(head_path)
    assert read.licence == file.licence
    encoder = AdapterEncoder(TokenBackbone.load(backbone), read_adapter(adapter_path))
    vectors = torch.from_numpy(encoder.embed(encoder.tokenize(prompts))).float()
    features = vectors[None, :, encoder.pooled :]
    expected = _values(TabPFNHead(tuned.file(), columns=COLUMNS), features, rewards)
    np.testing.assert_allclose(values.mean, expected, atol=2e-3)
    untuned = _values(TabPFNHead(file, columns=COLUMNS), features, rewards)
    assert np.abs(expected - untuned).max() > 0.01


def _values(head: TabPFNHead, features: torch.Tensor, rewards: np.ndarray) -> np.ndarray:
    size = len(rewards)
    labels = torch.from_numpy(rewards)[None]
    with torch.no_grad():
        logits = head(features[:, :size], labels, features[:, size:])
    values: np.ndarray = logits[0].softmax(-1)[:, 1].numpy()
    return values
