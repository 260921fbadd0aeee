"""Pre-training of a small TabPFN, in seconds."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tabpfn import TabPFNClassifier

from research.tabpfn.__main__ import main
from research.tabpfn.evaluation import judge_pretrained
from research.tabpfn.pretraining import TabPFNPretraining
from research.tabpfn.recipe import TabPFNRecipe, load_tabpfn_recipe
from research.tabpfn.synthetic_tables import synthetic_tables
from tests.training.interrupted import Stopped, stop_at
from vzero_server.paper.tabpfn_file import read_tabpfn, save_tabpfn
from vzero_train.cli import heads
from vzero_train.training.settings import RecipeError

TINY = TabPFNRecipe(
    layers=2, width=12, heads=2, group=2, thinking=2, rows=24, columns=6, asked=16, tables=4,
    steps=4, save_every=2, rate=5e-3,
)  # fmt: skip


def weights(training: TabPFNPretraining) -> list[torch.Tensor]:
    return list(training.net.state_dict().values())


def test_tables_have_the_requested_shape() -> None:
    features, rewards = synthetic_tables(np.random.default_rng(0), 50, 16, 8, 5)
    assert features.shape == (50, 24, 5)
    assert rewards.shape == (50, 24)
    assert np.isfinite(features).all()
    assert set(np.unique(rewards)) == {0.0, 1.0}
    known = rewards[:, :16].mean(1)
    assert ((known > 0.0) & (known < 1.0)).all()
    again, _ = synthetic_tables(np.random.default_rng(0), 50, 16, 8, 5)
    np.testing.assert_array_equal(again, features)


def test_the_same_seed_makes_the_same_weights() -> None:
    one, same, other = (TabPFNPretraining(replace(TINY, seed=seed)) for seed in (0, 0, 1))
    for training in (one, same, other):
        training.train()
    assert all(map(torch.equal, weights(one), weights(same)))
    assert not all(map(torch.equal, weights(one), weights(other)))


def test_an_interrupted_training_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = TabPFNPretraining(TINY)
    whole.train()
    state = tmp_path / "state.pt"

    with pytest.raises(Stopped):
        TabPFNPretraining(TINY).train(state=state, on_step=stop_at(3))
    again = TabPFNPretraining(TINY)
    steps: list[int] = []
    again.train(state=state, on_step=lambda step, _: steps.append(step))
    assert steps == [3, 4]
    assert all(map(torch.equal, weights(again), weights(whole)))
    with pytest.raises(ValueError, match="another recipe"):
        TabPFNPretraining(replace(TINY, seed=1)).train(state=state)


@pytest.mark.long
def test_it_learns_to_read_a_context() -> None:
    """On tables of two columns, it is far better than chance and close to logistic regression."""
    recipe = replace(TINY, width=24, columns=2, steps=150, tables=16, rate=4e-3)
    training = TabPFNPretraining(recipe)
    training.train()
    found = judge_pretrained(training.file(Path("x")), rows=24, widths=[2], tables=60)
    (own,), (logistic,) = found["tabpfn"], found["logistic-regression"]
    assert own.auc.low > 0.55
    assert own.auc.estimate > logistic.auc.estimate - 0.04
    assert own.loss.estimate < np.log(2) - 0.02


def test_the_file_is_read_by_us_and_by_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABPFN_NO_BROWSER", "1")
    training = TabPFNPretraining(TINY)
    training.train()
    path = tmp_path / "own.safetensors"
    save_tabpfn(path, training.file(path), training={"recipe": asdict(TINY)})
    file = read_tabpfn(path)
    assert (file.licence, file.commercial) == ("Apache-2.0", True)
    assert (file.most_rows, file.most_columns, file.temperature) == (24, 6, 1.0)
    assert all(map(torch.equal, file.net.state_dict().values(), weights(training)))
    features, rewards = synthetic_tables(np.random.default_rng(0), 1, 20, 5, 6)
    theirs = TabPFNClassifier(model_path=str(path), n_estimators=1, device="cpu")
    theirs.fit(features[0, :20], rewards[0, :20])
    assert theirs.predict_proba(features[0, 20:]).shape == (5, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layers = 0", "layers must be at least 1"),
        ("rows = 15", "rows must be at least 16"),
        ("columns = 1", "columns must be at least 2"),
        ("width = 10\nheads = 3", "width must be at least 4 and a multiple of heads, 3"),
        ("thinking = -1", "thinking must be at least 0"),
        ("save_every = 0", "save_every must be at least 1"),
        ("depth = 3", "unknown settings depth"),
        ("layers = 2.5", "layers: input should be a valid integer"),
        ("[", "recipe.toml"),
    ],
)
def test_an_invalid_recipe_is_named_in_the_error(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said):
        load_tabpfn_recipe(path)


def test_the_shipped_recipe_names_every_setting() -> None:
    assert load_tabpfn_recipe() == TabPFNRecipe()


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text("".join(f"{name} = {value}\n" for name, value in asdict(TINY).items()))
    return path


def test_the_command_writes_weights_and_says_how_good_they_are(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "heads"
    assert run("--config", recipe, "--out", out, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["checkpoint"] == str(out / "tiny.safetensors")
    assert printed["tables"].keys() == {"tabpfn", "logistic-regression"}
    (one,) = printed["tables"]["tabpfn"]
    assert one["columns"] == 6
    assert one["auc"]["low"] <= one["auc"]["estimate"] <= one["auc"]["high"]
    assert read_tabpfn(out / "tiny.safetensors").most_columns == 6
    assert not heads.state_of(out / "tiny.safetensors").exists()
    assert run("--config", recipe, "--out", out) == 0
    shown = capsys.readouterr().out
    assert "AUC of tabpfn" in shown
    assert "reads 6 columns and 24 rows at most" in shown


def test_the_command_names_errors(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--config", recipe, "--out", tmp_path)
    for option in ("--fold", "--cache", "--backbone"):
        assert run(*command, option, "other") == 2
        assert f"No such option: {option}" in capsys.readouterr().err
    assert run("--config", tmp_path / "no.toml", "--out", tmp_path) == 2
    assert "no.toml" in capsys.readouterr().err
    state = heads.state_of(tmp_path / "tiny.safetensors")
    TabPFNPretraining(TINY).train(state=state)
    assert run(*command) == 2
    assert "add --resume" in capsys.readouterr().err
    assert run(*command, "--seed", 7, "--resume") == 2
    assert "another recipe" in capsys.readouterr().err
    assert run(*command, "--resume") == 0
