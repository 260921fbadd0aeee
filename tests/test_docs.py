"""The documents keep up with the code."""

import re
from pathlib import Path

from vzero_server.settings import Settings
from vzero_train.cli.tables import NAMES

ROOT = Path(__file__).parent.parent


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    for name, field in Settings.model_fields.items():
        assert f"| `{name}` | `{field.default}` | {field.description} |" in text


def test_the_readme_names_what_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "serve", "bench", "load", "help"):
        assert f"make {target}" in readme
        assert f"\n{target}:" in makefile
    for link in re.findall(r"\]\(([a-z][^):]*)\)", readme):
        assert (ROOT / link).exists(), link


def test_pages_of_results_are_linked_and_named_by_their_outcomes() -> None:
    results = ROOT / "docs" / "results"
    for page in results.glob("*.md"):
        for link in re.findall(r"\]\(([a-z][^):]*)\)", page.read_text()):
            assert (results / link).exists(), f"{page.name}: {link}"
    for name in NAMES:
        # What a command without a file would overwrite must have come from the zoo.
        for found in results.glob(f"{name}.json"):
            sources = re.findall(r'"intra_auc/([^"]+)"', found.read_text())
            assert set(sources) <= {"policy_zoo"}, found.name
