"""Commands of other packages: listed without an import, imported when called."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vzero.cli import main


@pytest.fixture(autouse=True)
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution with three commands, none of them named like a real one."""
    info = tmp_path / "made_up-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[vzero.commands]\n"
        "hello = made_up:hello\n"
        "observe = made_up_without:observe\n"
        "practise = made_up_late:train [train]\n"
    )
    (tmp_path / "made_up.py").write_text(
        "import typer\n"
        "def hello(name: str, loud: bool = False) -> None:\n"
        '    "Say hello."\n'
        "    print(name.upper() if loud else name)\n"
        "    if name == 'nobody':\n"
        "        raise typer.Exit(3)\n"
    )
    (tmp_path / "made_up_without.py").write_text("import not_installed_at_all\n")
    (tmp_path / "made_up_late.py").write_text(
        "def train() -> None:\n    import not_installed_at_all\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("made_up", "made_up_without", "made_up_late"):
        sys.modules.pop(name, None)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_help_lists_without_importing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert "hello" in out
    assert "Run a server." in out
    assert not {"made_up", "made_up_without"} & set(sys.modules)


def test_a_command_runs_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hello", "you", "--loud") == 0
    assert capsys.readouterr().out == "YOU\n"
    assert run("hello", "nobody") == 3
    assert run("hello") == 2
    assert run("hello", "--help") == 0
    assert "Say hello." in capsys.readouterr().out


def test_missing_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("observe") == 2
    assert capsys.readouterr().err == (
        "vzero observe needs the server: pip install 'vzero[server]'\n"
    )
    assert run("practise") == 2
    assert capsys.readouterr().err == "vzero practise needs the train: pip install 'vzero[train]'\n"
