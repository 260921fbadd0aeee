"""``vzero train`` end to end, on a small file with the packaged backbone."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.training.commands import RECIPE, document, run
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import load_checkpoint
from vzero_train.cli import heads


def test_train_then_eval(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outcomes, out = folder / "outcomes.parquet", tmp_path / "out"
    trained = document(
        capsys, "train", outcomes, "--config", folder / "recipe.toml", "--out", out, "--seed", 3,
        "--tensorboard", tmp_path / "log", "--cache", folder,
    )  # fmt: skip
    path = Path(trained["checkpoint"])
    assert path == out / "recipe.safetensors"
    checkpoint = load_checkpoint(path, backbone_sha256=Backbone.load().weights)
    assert checkpoint.fingerprint == trained["fingerprint"]
    assert checkpoint.training["outcomes"] == 960
    assert checkpoint.training["recipe"]["seed"] == 3
    assert checkpoint.training["data"] == ["made up"]
    # Not of a source that has no outcomes.
    assert checkpoint.training["licences"] == {"made up": "CC0-1.0"}
    assert list((tmp_path / "log").glob("events.*"))
    assert [file.name for file in out.iterdir()] == ["recipe.safetensors"]
    evaluated = document(
        capsys, "eval", "outcomes", outcomes, "--checkpoint", path, "--sizes", 16,
        "--estimators", "icl", "--cache", folder,
    )  # fmt: skip
    assert evaluated["head"]["fingerprint"] == trained["fingerprint"]


@pytest.mark.long
def test_an_interrupted_training_run_is_resumed_on_request(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    arguments = (
        "train", folder / "outcomes.parquet", "--config", folder / "recipe.toml",
        "--out", tmp_path, "--cache", folder,
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("vzero_server.model.checkpoint.save_checkpoint", fail)
        assert run(*arguments) == 2
    assert "disk full" in capsys.readouterr().err
    state = heads.state_of(tmp_path / "recipe.safetensors")
    assert state.is_file()
    assert run(*arguments) == 2
    assert "add --resume" in capsys.readouterr().err
    assert run(*arguments, "--seed", "5", "--resume") == 2
    assert "another recipe" in capsys.readouterr().err
    assert run(*arguments, "--resume") == 0
    assert not state.exists()


@pytest.mark.parametrize(
    ("recipe", "arguments", "message"),
    [
        ("[trainer]\nstep = 5", (), "unknown settings step"),
        ("speed = 1", (), "unknown settings speed"),
        ("[", (), "recipe.toml"),
        ('components = "8"', (), "components: input should be a valid integer, not '8'"),
        ("components = 0", (), "components: input should be greater than 0, not 0"),
        ("head = 3", (), "head: input should be a valid dictionary, not 3"),
        ("[head]\nskills = 4.5", (), "head.skills: input should be a valid integer"),
        ("[trainer]\nsteps = true", (), "trainer.steps: input should be a valid integer, not True"),
        (
            '[trainer]\nrate = "fast"',
            (),
            "trainer.rate: input should be a valid number, not 'fast'",
        ),
        ('[folds]\nfirst = "b0"', (), "folds.first: input should be a valid list, not 'b0'"),
        (RECIPE, ("--fold", "third"), "no 'third' in the recipe; there are first, other"),
        (RECIPE + 'third = ["d"]', ("--fold", "third"), "no benchmark of 'third'"),
        (RECIPE.replace("largest = 16", "largest = 900"), (), "no pool holds"),
    ],
)
def test_train_names_errors(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    arguments: Sequence[str],
    message: str,
) -> None:
    config = tmp_path / "recipe.toml"
    config.write_text(recipe)
    code = run(
        "train", folder / "outcomes.parquet", "--config", config, "--out", tmp_path,
        "--cache", folder, *arguments,
    )  # fmt: skip
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_fold_is_left_out(folder: Path, tmp_path: Path) -> None:
    code = run(
        "train", folder / "outcomes.parquet", "--config", folder / "recipe.toml",
        "--out", tmp_path, "--cache", folder, "--fold", "first",
    )  # fmt: skip
    assert code == 0
    training = load_checkpoint(tmp_path / "recipe-without-first.safetensors").training
    assert training["left_out"] == "first"
    assert training["prompts"] == 80


def test_an_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "o.parquet"
    empty = pa.array([], pa.string())
    parquet.write_table(pa.table({"prompt": empty, "policy": empty, "reward": empty}), path)
    for command in (("eval", "outcomes", path), ("train", path, "--out", tmp_path)):
        assert run(*command) == 2
        assert capsys.readouterr().err == f"vzero: {path}: holds no outcomes\n"
