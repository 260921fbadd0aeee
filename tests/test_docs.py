"""The documents keep up with the code."""

import re
from pathlib import Path

from vzero_server.config import Settings

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
