"""``python -m research.tables`` and ``folds`` end to end, on a small file."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from research.folds import main as folds
from research.tables import figure4
from research.tables.__main__ import main as tables
from tests.training.commands import RECIPE, document, run
from tests.training.made_up import made_up_outcomes
from vzero_server.model.backbone import Backbone
from vzero_server.model.checkpoint import SHIPPED, BackboneSpec, load_checkpoint, save_checkpoint


@pytest.mark.long
def test_folds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        folder / "outcomes.parquet", "--config", folder / "recipe.toml",
        "--out", tmp_path, "--cache", folder, "--sizes", "16", "--estimators", "icl,context-mean",
    )  # fmt: skip
    found = document(capsys, *arguments, command=folds)
    assert set(found["folds"]) == {"first", "other"}
    (size,) = found["sizes"]
    assert size["contexts"] == sum(one[0]["contexts"] for one in found["folds"].values())
    # The second run finds the heads, trains none, and prints the same tables.
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert document(capsys, *arguments, command=folds)["sizes"] == found["sizes"]
    assert times == {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert run(*arguments, command=folds) == 0
    printed = capsys.readouterr().out
    assert "first" in printed
    assert "context-mean" in printed
    other = folder / "other.toml"
    other.write_text(RECIPE.replace("steps = 4", "steps = 5"))
    assert run(*arguments[:2], other, *arguments[3:], command=folds) == 2
    assert "is of another recipe" in capsys.readouterr().err
    assert run(folder / "outcomes.parquet", command=folds) == 2
    assert "Missing option '--out'" in capsys.readouterr().err


@pytest.mark.long
def test_tables(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = folder / "one-policy.parquet"
    names = ("table1", "table2", "table9", "lineage")
    written = document(
        capsys, outcomes, "--only", ",".join(names), "--out", tmp_path, "--cache", folder,
        command=tables,
    )  # fmt: skip
    assert tuple(written) == names
    for name in names:
        kept = json.loads((tmp_path / f"{name}-one-policy.json").read_text())
        assert kept == written[name]
        page = (tmp_path / f"{name}-one-policy.md").read_text()
        assert f"python -m research.tables one-policy.parquet --only {name}" in page
        assert "| **V0**" in page or "| 64 |" in page
    assert run(outcomes, "--only", "table3", command=tables) == 2
    assert "--only: no 'table3'; there are table1, " in capsys.readouterr().err


def test_tabpfn_is_for_the_tables_that_use_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes, head = folder / "one-policy.parquet", tmp_path / "missing.ckpt"
    arguments = (outcomes, "--out", tmp_path, "--tabpfn", head)
    assert run(*arguments, "--only", "table4", command=tables) == 2
    assert "--tabpfn is for table6, not for table4" in capsys.readouterr().err
    assert run(*arguments, "--only", "table6", command=tables) == 2
    assert "table6: " in (said := capsys.readouterr().err)
    assert "missing.ckpt: no such file" in said


def test_tables_need_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "o.parquet"
    parquet.write_table(pa.table({"prompt": ["a"], "policy": ["p"], "reward": [1.0]}), path)
    assert run(path, "--only", "table1", "--out", tmp_path, command=tables) == 2
    assert "no policy has outcomes at two steps" in capsys.readouterr().err


@pytest.mark.long
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


def test_a_head_for_another_backbone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.safetensors"
    shipped = load_checkpoint(SHIPPED)
    other = BackboneSpec("another", "ab" * 32, shipped.backbone.layers)
    save_checkpoint(path, shipped.head, backbone=other, training={}, metrics={})
    outcomes = folder / "outcomes.parquet"
    assert run(outcomes, "--only", "table9", "--checkpoint", path, "--json", command=tables) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert "made for backbone another" in error["message"]
