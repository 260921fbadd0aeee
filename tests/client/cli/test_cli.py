"""Every command against a server, with output as text and as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vzero
from tests.client.cli.conftest import Run, as_json
from vzero_server.testing.local_server import LocalServer


def outcomes(n: int, **fields: object) -> str:
    return "".join(
        json.dumps({"prompt": f"What is {i} plus {i}?", "reward": i % 2, **fields}) + "\n"
        for i in range(n)
    )


def test_commands_in_sequence(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    file.write_text(outcomes(40, step=2, rollouts=8, policy_id="cli/life"))
    result = run("update", "cli/life", str(file))
    assert (result.code, result.err) == (0, "")
    assert result.out == "cli/life: 40 outcomes stored, 0 known before, version 40\n"

    result = run("predict", "cli/life", "What is 1 plus 1?", "[red]What?", "--estimator", "knn")
    assert result.code == 0
    assert "[red]What?" in result.out
    assert "KNN" in result.out
    assert "40 outcomes, version 40, newest step 2" in result.out

    result = run("policies")
    assert "cli/life" in result.out
    assert "mean_reward  0.5" in run("policies", "show", "cli/life").out

    bundle = tmp_path / "bundle"
    assert "bytes written to" in run("export", "cli/life", str(bundle)).out
    assert "40 outcomes stored" in run("import", str(bundle), "--as", "cli/copy").out
    assert run("policies", "delete", "cli/copy").code == 2
    assert run("policies", "delete", "cli/copy", "--yes").out == "cli/copy: 40 outcomes deleted\n"


def test_json_everywhere(run: Run, tmp_path: Path) -> None:
    ids = "".join(
        json.dumps({"prompt": "x", "reward": 1, "outcome_id": str(i)}) + "\n" for i in range(3)
    ).encode()
    stored = {"policy_id": "cli/json", "version": 3, "accepted": 3, "duplicates": 0}
    assert as_json(run("update", "cli/json", "-", "--json", stdin=ids)) == stored
    again = as_json(run("update", "cli/json", "-", "--json", stdin=ids))
    assert (again["accepted"], again["duplicates"]) == (0, 3)

    predicted = as_json(
        run(
            "predict", "cli/json", "a", "--prompts-file", "-", "--json", "--min-version", "3",
            stdin=b"b\nc\n",
        )
    )  # fmt: skip
    assert [value["prompt"] for value in predicted["values"]] == ["a", "b", "c"]
    assert set(predicted["values"][0]) == {
        "prompt", "mean", "lower", "upper", "effective_sample_size", "basis", "history",
    }  # fmt: skip
    assert predicted["context"]["version"] == 3
    assert predicted["context"]["newest_step"] is None

    shown = as_json(run("policies", "show", "cli/json", "--json"))
    assert shown["version"] == 3
    assert shown in as_json(run("policies", "--json"))["policies"]
    assert shown in as_json(run("policies", "list", "--json"))["policies"]

    bundle = tmp_path / "bundle"
    written = as_json(run("export", "cli/json", str(bundle), "--json"))
    assert written == {
        "policy_id": "cli/json", "path": str(bundle), "bytes": bundle.stat().st_size,
    }  # fmt: skip
    imported = as_json(run("import", str(bundle), "--json"))
    assert (imported["accepted"], imported["duplicates"]) == (0, 3)
    assert as_json(run("policies", "delete", "cli/json", "--yes", "--json"))["outcomes"] == 3


def test_errors_of_the_server(run: Run) -> None:
    result = run("predict", "cli/unknown", "x")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("vzero: ")
    assert result.err.count("\n") == 1

    result = run("predict", "cli/unknown", "x", "--json")
    assert (result.code, result.out) == (1, "")
    error = json.loads(result.err)["error"]
    assert (error["type"], error["code"]) == ("NotFound", "NOT_FOUND")


def test_no_server_at_the_address(run: Run, tmp_path: Path) -> None:
    result = run("policies", "--address", "127.0.0.1:1", "--timeout", "3")
    assert (result.code, result.out) == (1, "")
    file = tmp_path / "outcomes.jsonl"
    file.write_text(outcomes(1))
    result = run("update", "p", str(file), "--address", "127.0.0.1:1", "--timeout", "0.5")
    assert result.code == 1
    assert "no server is ready at 127.0.0.1:1" in result.err


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b"{\n", "is not JSON"),
        (b'{"prompt": "x", "reward": NaN}\n', "reward must be in [0, 1], not nan"),
        (b'{"prompt": "x", "reward": 1, "policy_id": "other"}\n', "is of policy 'other'"),
        (b"\xff\n", "is not UTF-8"),
    ],
)
def test_a_bad_line_stops_the_update(run: Run, bad: bytes, problem: str) -> None:
    policy = f"cli/bad/{problem}"
    stdin = outcomes(2).encode() + b"\n" + bad + outcomes(5).encode()
    result = run("update", policy, "-", stdin=stdin)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("vzero: line 4: ")
    assert problem in result.err
    assert "the 2 outcomes before it are stored" in result.err
    assert as_json(run("policies", "show", policy, "--json"))["version"] == 2
    result = run("update", policy, "-", "--json", stdin=bad)
    assert problem in json.loads(result.err)["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict",),
        ("predict", "p"),
        ("predict", "", "x"),
        ("predict", "p", ""),
        ("predict", "p", "--prompts-file", "/does/not/exist"),
        ("predict", "p", "x", "--estimator", ""),
        ("predict", "p", "x", "--as-of-step", "-1"),
        ("predict", "p", "x", "--address", "nowhere"),
        ("predict", "p", "x", "--timeout", "0"),
        ("update", "p"),
        ("update", "p", "/does/not/exist"),
        ("update", "p", "-"),
        ("policies", "shwo", "p"),
        ("policies", "delete", "p"),
        ("import", "/does/not/exist"),
        ("nonsense",),
    ],
)
def test_bad_usage(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
    result = run(*arguments, "--json")
    assert (result.code, result.out) == (2, "")
    assert set(json.loads(result.err)["error"]) >= {"type", "message"}


def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"vzero {vzero.__version__}\n"
    for arguments in ([], ["--help"], ["policies", "--help"], ["update", "--help"]):
        result = run(*arguments)
        assert result.code == 0
        assert "Usage" in result.out


def test_as_a_process(shared_server: LocalServer) -> None:
    script = "from vzero.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, "update", "cli/process", "-", "--json"],
        input=outcomes(3000).encode(),
        capture_output=True,
        env={**os.environ, "VZERO_ADDRESS": shared_server.address},
        check=True,
    )
    assert json.loads(done.stdout)["accepted"] == 3000
    assert done.stderr == b""


def test_importing_the_client_is_light() -> None:
    script = (
        "import sys, vzero; "
        "print(sorted({'rich', 'typer', 'torch', 'vzero_server'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_info(run: Run) -> None:
    result = run("info")
    assert (result.code, result.err) == (0, "")
    assert "icl (default), " in result.out
    described = as_json(run("info", "--json"))
    assert described["default_estimator"] == "icl"
    assert {"version", "estimators", "backbone", "device"} <= set(described)


def test_an_unknown_estimator_is_the_servers_error(run: Run) -> None:
    run("update", "cli/estimator", "-", stdin=outcomes(2).encode())
    result = run("predict", "cli/estimator", "x", "--estimator", "best")
    assert (result.code, result.out) == (1, "")
    assert "best" in result.err
    assert "knn" in result.err
    assert run("predict", "cli/estimator", "x", "--estimator", "KNN").code == 0
