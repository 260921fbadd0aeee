"""The commands end to end, on a small file with the packaged backbone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.training.made_up import made_up_outcomes
from vzero.cli import main
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import (
    SHIPPED,
    BackboneSpec,
    load_checkpoint,
    save_checkpoint,
)
from vzero_train.cli import heads
from vzero_train.data.outcomes import Outcomes
from vzero_train.experiments import figure4

RECIPE = """
components = 8

[head]
skills = 4
traits = 3
hidden = 8

[trainer]
steps = 4
contexts = 2
queries = 8
smallest = 4
largest = 16
warmup = 2
save_every = 2

[folds]
first = ["b0"]
other = ["b1", "c*"]
"""

PROVENANCE = """
[provenance.licences]
"made up" = "CC0-1.0"
another = "MIT"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outcomes, a recipe, and a cache that the commands share."""
    folder = tmp_path_factory.mktemp("commands")
    write(folder / "outcomes.parquet", made_up_outcomes(prompts=160, policies=3, steps=2))
    write(folder / "one-policy.parquet", made_up_outcomes(prompts=160, policies=1, steps=2))
    (folder / "recipe.toml").write_text(RECIPE + PROVENANCE)
    return folder


def write(path: Path, outcomes: Outcomes) -> None:
    columns = {
        "prompt": [outcomes.texts[index] for index in outcomes.prompt],
        "policy": outcomes.policy.tolist(),
        "benchmark": outcomes.benchmark.tolist(),
        "source": outcomes.source.tolist(),
        "step": outcomes.step,
        "reward": outcomes.reward,
        "n_rollouts": outcomes.rollouts,
    }
    parquet.write_table(pa.table(columns), path)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert run(*arguments, "--json") == 0
    printed = capsys.readouterr()
    assert not printed.err
    return json.loads(printed.out)


def test_eval_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("eval", folder / "one-policy.parquet", "--sizes", "16", "--cache", folder)
    found = document(capsys, *arguments)
    assert found["outcomes"]["rows"] == 320
    assert found["outcomes"]["noise_mse"] > 0
    (size,) = found["sizes"]
    assert (size["size"], size["queries"]) == (16, 64 * 6 + 64 * 6 + 144 * 6)
    reports = {one["name"]: one for one in size["estimators"]}
    assert len(reports) == 9
    assert reports["context-mean"]["auc"] == {"estimate": 0.5, "low": 0.5, "high": 0.5}
    lead = reports["context-mean"]["leads"]["auc"]["estimate"]
    assert lead == pytest.approx(reports["icl"]["auc"]["estimate"] - 0.5, abs=1e-5)
    assert not reports["icl"]["leads"]
    for report in reports.values():
        for figure in ("auc", "pairwise", "pairwise_lineage", "mse", "ece"):
            assert 0.0 <= report[figure]["estimate"] <= 1.0


def test_the_seed_decides(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "eval", folder / "one-policy.parquet", "--sizes", "8", "--cache", folder,
        "--estimators", "icl,vanilla-value-model",
    )  # fmt: skip
    found = document(capsys, *arguments)["sizes"]
    assert document(capsys, *arguments)["sizes"] == found
    assert document(capsys, *arguments, "--seed", 1)["sizes"] != found


def test_eval_for_a_person(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        "eval", folder / "outcomes.parquet", "--sizes", "16,1024", "--estimators", "icl,knn",
        "--hold-out", "b1", "--cache", folder,
    )  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0
    assert "N = 16" in out
    assert "knn" in out
    assert "context-mean" not in out
    assert "No policy has outcomes enough for N = 1024." in out
    assert "noise of the rollouts" in out


@pytest.mark.parametrize(
    ("changes", "arguments", "said"),
    [
        ({"reward": None}, (), "lacks the columns reward"),
        ({"reward": [1.5, *[0.0] * 9]}, (), "reward 1.5 of row 0 lies outside [0, 1]"),
        ({"reward": [float("nan"), *[0.0] * 9]}, (), "reward nan of row 0"),
        ({"policy": None, "prompt": None}, (), "lacks the columns prompt, policy"),
        ({}, (), "no policy has the 96 outcomes"),
        ({}, ("--estimators", "oracle"), "--estimators: no 'oracle'; there are icl, "),
        ({}, ("--hold-out", "mmlu"), "--hold-out: no 'mmlu'; there are b"),
        ({}, ("--hold-out", "b"), "holds no other benchmarks"),
        ({}, ("--sizes", "many"), "--sizes: 'many' is no context size"),
        ({}, ("--only", "table1"), "--only does not go with"),
        ({}, ("--backbone", "no/such/model"), "backbone"),
        ({}, ("--checkpoint", "none.safetensors"), "none.safetensors: no such file"),
    ],
)
def test_eval_says_what_is_wrong(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    arguments: Sequence[str],
    said: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    columns: dict[str, object] = {
        "prompt": [f"prompt {index}" for index in range(10)],
        "policy": ["p"] * 10,
        "reward": [0.0, 1.0] * 5,
        "benchmark": ["b"] * 10,
    }
    columns.update(changes)
    kept = {name: column for name, column in columns.items() if column is not None}
    path = tmp_path / "o.parquet"
    parquet.write_table(pa.table(kept), path)
    assert run("eval", path, *arguments) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_an_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "o.parquet"
    empty = pa.array([], pa.string())
    parquet.write_table(pa.table({"prompt": empty, "policy": empty, "reward": empty}), path)
    for command in (("eval", path), ("train", path, "--out", tmp_path)):
        assert run(*command) == 2
        assert capsys.readouterr().err == f"vzero: {path}: holds no outcomes\n"


def test_a_head_for_another_backbone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.safetensors"
    shipped = load_checkpoint(SHIPPED)
    other = BackboneSpec("another", "ab" * 32, shipped.backbone.layers)
    save_checkpoint(path, shipped.head, backbone=other, training={}, metrics={})
    outcomes = folder / "outcomes.parquet"
    for command in (("eval", outcomes), ("eval", "tables", outcomes, "--only", "table9")):
        code = run(*command, "--checkpoint", path, "--json")
        assert code == 2
        error = json.loads(capsys.readouterr().err)["error"]
        assert "made for backbone another" in error["message"]


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
    # Not that of a source the outcomes are not from.
    assert checkpoint.training["licences"] == {"made up": "CC0-1.0"}
    assert list((tmp_path / "log").glob("events.*"))
    assert [file.name for file in out.iterdir()] == ["recipe.safetensors"]
    found = document(
        capsys, "eval", outcomes, "--checkpoint", path, "--sizes", 16, "--estimators", "icl",
        "--cache", folder,
    )  # fmt: skip
    assert found["head"]["fingerprint"] == trained["fingerprint"]


def test_an_interrupted_training_is_resumed_when_asked(
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
    ("recipe", "arguments", "said"),
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
def test_train_says_what_is_wrong(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    arguments: Sequence[str],
    said: str,
) -> None:
    config = tmp_path / "recipe.toml"
    config.write_text(recipe)
    code = run(
        "train", folder / "outcomes.parquet", "--config", config, "--out", tmp_path,
        "--cache", folder, *arguments,
    )  # fmt: skip
    assert code == 2
    assert said in capsys.readouterr().err


def test_a_fold_is_left_out(folder: Path, tmp_path: Path) -> None:
    code = run(
        "train", folder / "outcomes.parquet", "--config", folder / "recipe.toml",
        "--out", tmp_path, "--cache", folder, "--fold", "first",
    )  # fmt: skip
    assert code == 0
    training = load_checkpoint(tmp_path / "recipe-without-first.safetensors").training
    assert training["left_out"] == "first"
    assert training["prompts"] == 80


def test_folds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "eval", "folds", folder / "outcomes.parquet", "--config", folder / "recipe.toml",
        "--out", tmp_path, "--cache", folder, "--sizes", "16", "--estimators", "icl,context-mean",
    )  # fmt: skip
    found = document(capsys, *arguments)
    assert set(found["folds"]) == {"first", "other"}
    (size,) = found["sizes"]
    assert size["contexts"] == sum(one[0]["contexts"] for one in found["folds"].values())
    # The heads are there: the second run trains none, and prints the same.
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert document(capsys, *arguments)["sizes"] == found["sizes"]
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert run("eval", *arguments[1:]) == 0
    printed = capsys.readouterr().out
    assert "first" in printed
    assert "context-mean" in printed
    other = folder / "other.toml"
    other.write_text(RECIPE.replace("steps = 4", "steps = 5"))
    assert run(*arguments[:4], other, *arguments[5:]) == 2
    assert "is of another recipe" in capsys.readouterr().err
    assert run("eval", "folds", folder / "outcomes.parquet") == 2
    assert "needs OUTCOMES and --out" in capsys.readouterr().err


def test_tables(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = folder / "one-policy.parquet"
    names = ("table1", "table2", "table9", "lineage")
    written = document(
        capsys, "eval", "tables", outcomes, "--only", ",".join(names), "--out", tmp_path,
        "--cache", folder,
    )  # fmt: skip
    assert tuple(written) == names
    for name in names:
        kept = json.loads((tmp_path / f"{name}-one-policy.json").read_text())
        assert kept == written[name]
        page = (tmp_path / f"{name}-one-policy.md").read_text()
        assert f"vzero eval tables one-policy.parquet --only {name}" in page
        assert "| **V0**" in page or "| 64 |" in page
    assert run("eval", "tables", outcomes, "--only", "table3") == 2
    assert "--only: no 'table3'; there are table1, " in capsys.readouterr().err


def test_tabpfn_is_for_the_tables_that_use_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes, head = folder / "one-policy.parquet", tmp_path / "missing.ckpt"
    assert run("eval", outcomes, "--tabpfn", head) == 2
    assert "--tabpfn does not go with 'vzero eval " in capsys.readouterr().err
    command = ("eval", "tables", outcomes, "--out", tmp_path, "--tabpfn", head)
    assert run(*command, "--only", "table4") == 2
    assert "--tabpfn is for table6, not for table4" in capsys.readouterr().err
    assert run(*command, "--only", "table6") == 2
    assert "table6: " in (said := capsys.readouterr().err)
    assert "missing.ckpt: no such file" in said


def test_tables_need_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "o.parquet"
    parquet.write_table(pa.table({"prompt": ["a"], "policy": ["p"], "reward": [1.0]}), path)
    assert run("eval", "tables", path, "--only", "table1", "--out", tmp_path) == 2
    assert "no policy has outcomes at two steps" in capsys.readouterr().err


def test_figure4(tmp_path: Path) -> None:
    outcomes = made_up_outcomes(prompts=400, policies=2, steps=2)
    names = [shift.name for shift in figure4.shifts(outcomes)]
    assert names == ["training stage", "policy", "domain"]
    for shift in figure4.shifts(outcomes):
        np.testing.assert_array_equal(shift.source, ~shift.target)
    found = figure4.run(outcomes, Backbone.load(), tmp_path, steps=1)
    assert [side["shift"] for side in found["sides"]] == [n for name in names for n in (name,) * 2]
    assert (tmp_path / "figure4.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="too few outcomes to train on"):
        figure4.run(made_up_outcomes(prompts=70, steps=2), Backbone.load(), tmp_path)


def test_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "runs.parquet"
    write(file, made_up_outcomes(prompts=80, policies=2, steps=9))
    out = tmp_path / "results"
    found = document(capsys, "eval", "history", file, "--out", out)
    assert json.loads((out / "history-runs.json").read_text()) == found
    whole, part = found["sequences"]
    assert (whole["predictions"], whole["steps"], whole["prompts"]) == (2 * 8 * 80, 16, 80)
    assert 0 < part["predictions"] < whole["predictions"] / 2
    for sequence in (whole, part):
        mse = {name: figure["estimate"] for name, figure in sequence["mse"].items()}
        # The runs rise all the time, and no ingredient alone knows that.
        assert mse["fusion"] < 0.9 * mse[sequence["best_single"]]
        assert sequence["noise"] < mse["fusion"] < mse["fusion without shift"]
        gain = 1.0 - mse["fusion"] / mse[sequence["best_single"]]
        assert sequence["gain"]["fusion"]["estimate"] == pytest.approx(gain)
    page = (out / "history-runs.md").read_text()
    assert f"{mse['fusion']:.4f}" in page
    assert set(whole["fits"]) == {"policy 0", "policy 1"}


def test_history_needs_prompts_that_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "once.parquet"
    write(file, made_up_outcomes(prompts=40, steps=1))
    assert run("eval", "history", file, "--out", tmp_path) == 2
    assert "no prompt comes back" in capsys.readouterr().err
    assert run("eval", "history", file, "--sizes", "64") == 2
