"""Every example runs unchanged against a server."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples import router, stream
from tests.integrations.tiny_policy import tiny_llama, tiny_tokenizer
from vzero import Client
from vzero_server.testing.local_server import LocalServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_stream_example_runs(
    shared_server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    stream.main(["--address", shared_server.address])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    means = [float(line[:4]) for line in lines]
    assert min(means[:2]) > max(means[2:4]) > max(means[4:])


def test_the_router_example_runs(
    shared_server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    router.main(["--address", shared_server.address])
    easy, hard = capsys.readouterr().out.splitlines()
    assert easy.startswith("example-router/small ")
    assert hard.startswith("example-router/large ")
    assert "0.000020 USD" in easy
    assert "0.000400 USD" in hard


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
def test_the_trl_example_runs(
    shared_server: LocalServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trl_grpo = importlib.import_module("examples.trl_grpo")  # imports torch and trl
    tokenizer = tiny_tokenizer()
    model = tmp_path / "model"
    tokenizer.save_pretrained(model)
    tiny_llama(tokenizer).save_pretrained(model)
    out = str(tmp_path / "out")
    trl_grpo.main(
        ["--address", shared_server.address, "--model", str(model), "--steps", "2", "--out", out]
    )
    assert re.search(r"example-trl: mean reward 0\.\d{3} at step 1", capsys.readouterr().out)
    with Client(shared_server.address) as client:
        assert client.policy("example-trl").version == 2 * 4


@pytest.mark.parametrize("name", ["stream.py", "router.py", "trl_grpo.py"])
def test_an_example_is_short_and_has_help(name: str) -> None:
    """Each is run as a file, from any folder."""
    path = EXAMPLES / name
    assert len(path.read_text().splitlines()) <= 70
    process = subprocess.run(
        [sys.executable, str(path), "--help"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert "--address" in process.stdout
