"""``vzero eval`` end to end, on a small file with the packaged backbone."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.training.commands import document, run, write
from tests.training.made_up import made_up_outcomes
from vzero_server.model.checkpoint import SHIPPED, BackboneSpec, load_checkpoint, save_checkpoint


@pytest.mark.long
def test_eval_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "one-policy.parquet"
    arguments = ("eval", "outcomes", path, "--sizes", "16", "--cache", folder)
    result = document(capsys, *arguments)
    assert result["outcomes"]["rows"] == 320
    assert result["outcomes"]["noise_mse"] > 0
    (size,) = result["sizes"]
    assert (size["size"], size["queries"]) == (16, 64 * 6 + 64 * 6 + 144 * 6)
    reports = {report["name"]: report for report in size["estimators"]}
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
        "eval", "outcomes", folder / "one-policy.parquet", "--sizes", "8", "--cache", folder,
        "--estimators", "icl,vanilla-value-model",
    )  # fmt: skip
    result = document(capsys, *arguments)["sizes"]
    assert document(capsys, *arguments)["sizes"] == result
    assert document(capsys, *arguments, "--seed", 1)["sizes"] != result


def test_eval_for_a_person(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        "eval", "outcomes", folder / "outcomes.parquet", "--sizes", "16,1024",
        "--estimators", "icl,knn", "--hold-out", "b1", "--cache", folder,
    )  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0
    assert "N = 16" in out
    assert "knn" in out
    assert "context-mean" not in out
    assert "No policy has outcomes enough for N = 1024." in out
    assert "noise of the rollouts" in out


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"reward": None}, (), "lacks the columns reward"),
        ({"reward": [1.5, *[0.0] * 9]}, (), "reward 1.5 of row 0 lies outside [0, 1]"),
        ({"reward": [float("nan"), *[0.0] * 9]}, (), "reward nan of row 0"),
        ({"policy": None, "prompt": None}, (), "lacks the columns prompt, policy"),
        ({}, (), "no policy has the 96 outcomes"),
        ({}, ("--estimators", "oracle"), "--estimators: no 'oracle'; there are icl, "),
        ({}, ("--hold-out", "mmlu"), "--hold-out: no 'mmlu'; there are b"),
        ({}, ("--hold-out", "b"), "holds no other benchmarks"),
        ({}, ("--sizes", "many"), "--sizes: 'many' is not a context size"),
        ({}, ("--only", "table1"), "No such option: --only"),
        ({}, ("--backbone", "no/such/model"), "backbone"),
        ({}, ("--checkpoint", "none.safetensors"), "none.safetensors: no such file"),
    ],
)
def test_eval_names_errors(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    arguments: Sequence[str],
    message: str,
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
    assert run("eval", "outcomes", path, *arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


def test_a_head_for_another_backbone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "head.safetensors"
    shipped = load_checkpoint(SHIPPED)
    other = BackboneSpec("another", "ab" * 32, shipped.backbone.layers)
    save_checkpoint(path, shipped.head, backbone=other, training={}, metrics={})
    outcomes = folder / "outcomes.parquet"
    assert run("eval", "outcomes", outcomes, "--checkpoint", path, "--json") == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert "made for backbone another" in error["message"]


def test_a_file_in_place_of_a_subcommand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "o.parquet"
    assert run("eval", path) == 2
    assert f"use 'vzero eval outcomes {path}'" in capsys.readouterr().err
    assert run("eval", "everything") == 2
    assert "No such command 'everything'" in capsys.readouterr().err
    assert run("eval", "--help") == 0
    shown = capsys.readouterr().out
    for name in ("outcomes", "routing", "history"):
        assert f" {name} " in shown


@pytest.mark.parametrize(
    ("subcommand", "others"),
    [
        ("outcomes", ("--only", "--out", "--config", "--tabpfn", "--source", "--splits")),
        ("history", ("--estimators", "--sizes", "--hold-out", "--config", "--only", "--sized")),
        ("routing", ("--hold-out", "--only", "--config", "--tabpfn")),
    ],
)
def test_subcommands_have_only_their_own_options(
    subcommand: str, others: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for option in others:
        assert run("eval", subcommand, "o.parquet", option, "1") == 2
        assert f"No such option: {option}" in capsys.readouterr().err


@pytest.mark.long
def test_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "runs.parquet"
    write(file, made_up_outcomes(prompts=80, policies=2, steps=9))
    out = tmp_path / "results"
    result = document(capsys, "eval", "history", file, "--out", out)
    assert json.loads((out / "history-runs.json").read_text()) == result
    whole, part = result["sequences"]
    assert (whole["predictions"], whole["steps"], whole["prompts"]) == (2 * 8 * 80, 16, 80)
    assert 0 < part["predictions"] < whole["predictions"] / 2
    for sequence in (whole, part):
        mse = {name: figure["estimate"] for name, figure in sequence["mse"].items()}
        # Rewards rise all the time, which no single ingredient models.
        assert mse["fusion"] < 0.9 * mse[sequence["best_single"]]
        assert sequence["noise"] < mse["fusion"] < mse["fusion without shift"]
        gain = 1.0 - mse["fusion"] / mse[sequence["best_single"]]
        assert sequence["gain"]["fusion"]["estimate"] == pytest.approx(gain)
    page = (out / "history-runs.md").read_text()
    assert f"{mse['fusion']:.4f}" in page
    assert set(whole["fits"]) == {"policy 0", "policy 1"}


def test_the_evaluation_of_history_needs_repeated_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "once.parquet"
    write(file, made_up_outcomes(prompts=40, steps=1))
    assert run("eval", "history", file, "--out", tmp_path) == 2
    assert "no prompt comes back" in capsys.readouterr().err


def test_history_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "runs.parquet"
    write(file, made_up_outcomes(prompts=40, policies=1, steps=3))
    assert run("eval", "history", file) == 0
    shown = capsys.readouterr().out
    assert "every prompt at every step" in shown
    assert "fusion without shift" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["runs.parquet"]
