"""How tests run a command."""

import io
import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from vzero.cli import main
from vzero_server.testing.local_server import LocalServer

Run = Callable[..., SimpleNamespace]


@pytest.fixture
def run(
    shared_server: LocalServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command; the server is known from the environment."""
    monkeypatch.setenv("VZERO_ADDRESS", shared_server.address)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: str, stdin: bytes = b"") -> SimpleNamespace:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return SimpleNamespace(code=ended.value.code, out=out, err=err)

    return command


def as_json(result: SimpleNamespace) -> Any:
    assert (result.code, result.err) == (0, "")
    return json.loads(result.out)
