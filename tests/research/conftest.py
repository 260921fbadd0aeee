"""Fixtures: a folder of outcomes and a recipe, which also caches the encoded prompts."""

from pathlib import Path

import pytest

from tests.training.commands import write_inputs


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outcomes, a recipe, and a cache that the commands share."""
    folder = tmp_path_factory.mktemp("commands")
    write_inputs(folder)
    return folder
