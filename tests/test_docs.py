"""The documents agree with the code."""

import importlib.util
import json
import pkgutil
import re
import shlex
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.tables.__main__ import NAMES
from tests import documents
from tests.api.admin import get
from tests.documents import PAGES, ROOT
from vzero import Client
from vzero.cli import main
from vzero_server.settings import Settings
from vzero_server.testing.local_server import LocalServer


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` | `{field.default}` | {field.description} |" in text


def test_the_make_targets_of_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "serve", "bench", "load", "help"):
        assert f"make {target}" in readme
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_point_to_existing_files_and_headings(page: Path) -> None:
    for link in documents.links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in documents.anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_and_modules_exist(page: Path) -> None:
    text = page.read_text()
    assert [path for path in documents.paths(text) if not documents.exists(path)] == []
    assert [
        name for name in documents.modules(text) if importlib.util.find_spec(name) is None
    ] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_in_python_exist(page: Path) -> None:
    assert [name for name in documents.objects(page.read_text()) if not resolves(name)] == []


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, an object in one, or a group of entry points."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return name in entry_points().groups
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(
    page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    for arguments in documents.commands(page.read_text()):
        words = [word for word in arguments if not word.startswith("-")]
        options = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        with pytest.raises(SystemExit) as exited:
            main([*words, "--help"])
        printed = capsys.readouterr()
        assert exited.value.code == 0, (arguments, printed.err)
        listed = set(re.findall(r"--[a-z][a-z-]*", printed.out))
        assert options <= listed, arguments


def test_result_pages_link_to_existing_files_of_the_policy_zoo() -> None:
    results = ROOT / "research" / "results"
    for page in results.glob("*.md"):
        for link in re.findall(r"\]\(([a-z][^):]*)\)", page.read_text()):
            assert (results / link).exists(), f"{page.name}: {link}"
    for name in NAMES:
        # A command without a file overwrites these results, which must come from the zoo.
        for result in results.glob(f"{name}.json"):
            sources = re.findall(r'"intra_auc/([^"]+)"', result.read_text())
            assert set(sources) <= {"policy_zoo"}, result.name


def test_the_documented_metrics_equal_those_of_a_server(shared_server: LocalServer) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    table = text.partition("## Metrics")[2].partition("\n## ")[0]
    _, exposition = get(shared_server, "/metrics")
    exposed = set(re.findall(r"^# TYPE (vzero_\w+)", exposition, re.MULTILINE))
    exposed = {name for name in exposed if not name.endswith("_created")}
    assert set(re.findall(r"`(vzero_\w+)`", table)) == exposed
    suffixes = r"_(?:bucket|count|sum)$"
    used = {re.sub(suffixes, "", name) for name in re.findall(r"vzero_\w+", text)}
    assert used <= exposed


def test_the_layers_of_the_architecture_page_equal_the_import_contracts() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = config["tool"]["importlinter"]["contracts"]
    server = next(contract for contract in contracts if "of the server" in contract["name"])
    checked = [
        {name.removeprefix("vzero_server.") for name in layer.split(" | ")}
        for layer in server["layers"]
    ]
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = [
        set(re.findall(r"│ (\w+)(?:/|\.py)", layer))
        for layer in page.partition("┌")[2].partition("└")[0].split("├")
    ]
    assert drawn == checked[-len(drawn) :]


def test_the_python_code_of_the_documentation_runs(
    shared_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = [f"What is {i} plus 3?" for i in range(8)]
    names: dict[str, Any] = {
        "rollouts": [(prompt, np.array([0.0, 1.0])) for prompt in prompts],
        "next_prompts": prompts,
        "prompts": prompts,
    }
    for page in ("README.md", "docs/client.md", "docs/decisions.md"):
        for code in documents.blocks((ROOT / page).read_text(), "python"):
            code = code.replace("127.0.0.1:50051", shared_server.address)
            exec(compile(code, page, "exec"), names)
    names["client"].close()


def test_the_commands_of_the_client_page_run(
    shared_server: LocalServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VZERO_ADDRESS", shared_server.address)
    outcomes = [{"prompt": f"What is {i} + 1?", "reward": i % 2} for i in range(16)]
    Path("outcomes.jsonl").write_text("\n".join(json.dumps(outcome) for outcome in outcomes))
    Path("prompts.txt").write_text("What is 5 + 1?\nWhat is 6 + 1?\n")
    page = (ROOT / "docs" / "client.md").read_text()
    for line in documents.blocks(page, "sh")[0].splitlines():
        if line.startswith("vzero "):
            with pytest.raises(SystemExit) as exited:
                main(shlex.split(line, comments=True)[1:])
            assert exited.value.code == 0, (line, capsys.readouterr().err)
    with Client(shared_server.address) as client:
        client.delete("demo")
