from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from research.connectors.config import ConnectorConfig, load_connector_config
from research.connectors.head import pretrain_head
from research.connectors.modules import CONNECTORS
from research.connectors.objectives import Objective
from research.connectors.stages import TrainingStage
from research.connectors.token_states import TokenStates
from research.connectors.trainer import Check, ConnectorTrainer, intra_auc
from vzero_server.model.in_context_head import InContextHead
from vzero_train.data.outcomes import Pool
from vzero_train.data.questions import Question
from vzero_train.training.scalars import Scalars
from vzero_train.training.settings import RecipeError

PROMPTS, HIDDEN = 120, 8
CONFIG = ConnectorConfig(
    queries=3,
    width=6,
    steps=8,
    rows=16,
    asked=8,
    pretraining=3,
    rate=5e-3,
    check_every=2,
)


def make_states() -> TokenStates:
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 6, PROMPTS))]).astype(np.int64)
    tokens = rng.standard_normal((int(offsets[-1]), HIDDEN)).astype(np.float16)
    starts = offsets[:-1]
    pooled = np.add.reduceat(tokens.astype(np.float32), starts) / np.diff(offsets)[:, None]
    return TokenStates(tokens, offsets, pooled.astype(np.float16))


def make_outcomes(states: TokenStates) -> tuple[list[TrainingStage], list[Question]]:
    """Policies that succeed where one column of the mean state is large."""
    stages, questions = [], []
    parts = np.split(np.arange(PROMPTS), [50, 90])
    for step in range(2):
        rewards = (states.pooled[:, 0] > 0.1 * step).astype(np.float32)
        context, training, watched = (Pool("p", step, "b", part, rewards[part]) for part in parts)
        stages.append(TrainingStage(context, training))
        read = context.prompt[:16]
        questions.append(
            Question("p", step, "b", read, rewards[read], watched.prompt, watched.reward)
        )
    return stages, questions


def make_trainer(config: ConnectorConfig = CONFIG, **options: Any) -> ConnectorTrainer:
    states = make_states()
    stages, questions = make_outcomes(states)
    return ConnectorTrainer(stages, questions, states, config, **options)


def weights(trainer: ConnectorTrainer) -> list[torch.Tensor]:
    modules = (trainer.connector, trainer.head)
    return [p.detach().clone() for module in modules for p in module.state_dict().values()]


@pytest.mark.parametrize("objective", Objective)
def test_training_lowers_the_loss(objective: Objective) -> None:
    losses: list[float] = []
    trainer = make_trainer(replace(CONFIG, steps=50, check_every=50, objective=objective))
    trainer.train(on_step=lambda _, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


@pytest.mark.parametrize("name", CONNECTORS)
def test_every_connector_trains(name: str) -> None:
    trainer = make_trainer(replace(CONFIG, connector=name, steps=2, tune_head=name == "pooled"))
    before = weights(trainer)
    trainer.train()
    assert [step for step, _ in trainer.curve] == [0, 2]
    if trainer.best_step:
        assert any((a != b).any() for a, b in zip(before, weights(trainer), strict=True))
    values = trainer.values(make_outcomes(make_states())[1])
    assert [given.shape for given in values] == [(30,), (30,)]
    assert all(((given > 0.0) & (given < 1.0)).all() for given in values)


@pytest.mark.parametrize(("connector", "head"), [(True, False), (False, True), (True, True)])
def test_what_is_frozen_stays(connector: bool, head: bool) -> None:
    trainer = make_trainer(replace(CONFIG, tune_connector=connector, tune_head=head))
    modules = {trainer.connector: connector, trainer.head: head}
    before = {m: [p.detach().clone() for p in m.parameters()] for m in modules}
    last: dict[torch.nn.Module, list[torch.Tensor]] = {}

    def keep(_: Check) -> None:
        last.update({m: [p.detach().clone() for p in m.parameters()] for m in modules})

    trainer.train(on_check=keep)
    for module, moves in modules.items():
        pairs = zip(before[module], last[module], strict=True)
        assert any((a != b).any() for a, b in pairs) == moves


def test_with_nothing_to_train_there_is_one_check() -> None:
    trainer = make_trainer(replace(CONFIG, connector="pooled"))
    trainer.train()
    assert (trainer.step, len(trainer.curve), trainer.best_step) == (0, 1, 0)


def test_a_stopped_training_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = make_trainer()
    whole.train()

    class StopError(Exception):
        pass

    def stop(step: int, _: float) -> None:
        if step == 5:
            raise StopError

    broken, state = make_trainer(), tmp_path / "state.pt"
    with pytest.raises(StopError):
        broken.train(state=state, on_step=stop)
    resumed = make_trainer()
    torch.manual_seed(99)
    steps: list[int] = []
    resumed.train(state=state, on_step=lambda step, _: steps.append(step))
    assert steps == [5, 6, 7, 8]
    assert resumed.curve == whole.curve
    assert resumed.best_step == whole.best_step
    for one, other in zip(weights(whole), weights(resumed), strict=True):
        assert torch.equal(one, other)


def test_another_recipe_does_not_resume(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    make_trainer().train(state=state)
    with pytest.raises(ValueError, match="another recipe"):
        make_trainer(replace(CONFIG, rate=1.0)).train(state=state)


def test_seeds_decide_everything() -> None:
    one, same, other = make_trainer(), make_trainer(), make_trainer(replace(CONFIG, seed=1))
    for trainer in (one, same, other):
        trainer.train()
    assert one.curve == same.curve
    assert one.curve != other.curve


def test_the_weights_of_the_best_check_are_taken() -> None:
    checks: list[Check] = []
    trainer = make_trainer(replace(CONFIG, steps=20))
    trainer.train(on_check=checks.append)
    best = max(checks, key=lambda check: check.auc)
    assert trainer.best_step == best.step
    assert [(check.step, check.auc) for check in checks] == trainer.curve
    _, questions = make_outcomes(make_states())
    values = trainer.values(questions)
    assert intra_auc(questions, values) == best.auc
    for given, expected in zip(values, best.values, strict=True):
        np.testing.assert_array_equal(given, expected)


def test_patience_ends_a_training_that_does_not_improve() -> None:
    # Steps too small to change any order.
    trainer = make_trainer(replace(CONFIG, steps=50, rate=1e-9, patience=3))
    trainer.train()
    assert trainer.best_step == 0
    assert trainer.step == 6


def test_a_given_head_is_copied() -> None:
    states = make_states()
    head = pretrain_head(make_outcomes(states)[0], states, CONFIG)
    before = [parameter.detach().clone() for parameter in head.parameters()]
    make_trainer(replace(CONFIG, tune_head=True), head=head).train()
    for one, other in zip(before, head.parameters(), strict=True):
        assert torch.equal(one, other)
    assert isinstance(head, InContextHead)
    assert head.config.features == 18


def test_contexts_that_cannot_be_filled_are_named() -> None:
    with pytest.raises(ValueError, match="no stage has 51 rows"):
        make_trainer(replace(CONFIG, rows=51))


def test_the_recipe_is_read(tmp_path: Path) -> None:
    assert load_connector_config() == ConnectorConfig()
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("stepps = 3")
    with pytest.raises(RecipeError, match="unknown settings stepps"):
        load_connector_config(recipe)
    recipe.write_text('rows = "many"')
    with pytest.raises(RecipeError, match="rows: input should be a valid integer, not 'many'"):
        load_connector_config(recipe)
    recipe.write_text('objective = "guess"')
    with pytest.raises(RecipeError, match="guess"):
        load_connector_config(recipe)


def test_scalars_are_written_for_tensorboard(tmp_path: Path) -> None:
    with Scalars(tmp_path / "log") as scalars:
        trainer = make_trainer()
        trainer.train(
            on_step=scalars.loss,
            on_check=lambda check: scalars.add(check.step, {"validation/auc": check.auc}),
        )
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "log")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 9))
    areas = [event.value for event in events.Scalars("validation/auc")]
    assert areas == pytest.approx([area for _, area in trainer.curve])
