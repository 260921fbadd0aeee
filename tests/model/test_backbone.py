import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from tests.tiny_model import DIMENSION, WINDOW
from vzero_server.model import openvino
from vzero_server.model.backbone import PACKAGED, Backbone, BackboneError
from vzero_server.model.backbone_files import backbone_folder


@pytest.fixture(scope="module")
def packaged() -> Backbone:
    return Backbone.load()


def test_the_packaged_model_embeds_as_sentence_transformers_does(packaged: Backbone) -> None:
    prompts = ["What is 2 plus 3?", "Sort the letters of 'house'.", "naïve façade 🙂"]
    expected = SentenceTransformer(str(backbone_folder(PACKAGED)), device="cpu").encode(prompts)
    np.testing.assert_allclose(packaged.embed(packaged.tokenize(prompts)), expected, atol=1e-5)
    assert (packaged.dimension, packaged.max_tokens) == (384, 256)


def test_padding_does_not_change_an_embedding(tiny_backbone: Backbone) -> None:
    tokens = tiny_backbone.tokenize(["short", "a much longer prompt of many words"])
    together = tiny_backbone.embed(tokens)
    alone = np.concatenate([tiny_backbone.embed([row]) for row in tokens])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.shape == (2, DIMENSION)


def test_prompts_with_a_long_common_beginning_stay_apart(packaged: Backbone) -> None:
    prefix = "You are a careful assistant. Think step by step. " * 60
    prompts = [prefix + question for question in ("What is 2 plus 3?", "Name a river in France.")]
    tokens = packaged.tokenize(prompts)
    assert [len(row) for row in tokens] == [packaged.max_tokens] * 2
    # The special tokens of both ends are kept.
    assert {(row[0], row[-1]) for row in tokens} == {(101, 102)}
    first, second = packaged.embed(tokens)
    assert float(first @ second) < 0.99


def test_prompts_with_a_long_common_end_stay_apart(tiny_backbone: Backbone) -> None:
    tail = "x" * 100
    first, second = tiny_backbone.tokenize(["abc" + tail, "xyz" + tail])
    assert len(first) == len(second) == WINDOW
    assert first != second


def test_the_fingerprint_depends_on_model_and_number_format(tiny_model: Path) -> None:
    same = Backbone.load(str(tiny_model)).fingerprint
    assert Backbone.load(str(tiny_model)).fingerprint == same
    assert Backbone.load(str(tiny_model), dtype="bfloat16").fingerprint != same


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=str(tmp_path)):
        Backbone.load(str(tmp_path))


_BLOCKED = """
import socket, sys

def refuse(*arguments, **settings):
    print("network call tried", arguments, file=sys.stderr)
    raise SystemExit(3)

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from vzero_server.model.backbone import Backbone
backbone = Backbone.load(*sys.argv[1:])
print(backbone.embed(backbone.tokenize(["no network"])).shape)
"""


@pytest.mark.long
@pytest.mark.parametrize("which", ["packaged", "folder"])
def test_local_files_need_no_network(which: str, tiny_model: Path) -> None:
    arguments = [] if which == "packaged" else [str(tiny_model)]
    process = subprocess.run(
        [sys.executable, "-c", _BLOCKED, *arguments], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("(1, ")


def run_in_process(code: str, **environment: str) -> str:
    """Output of a new process, because hub settings are read once, at import."""
    process = subprocess.run(
        [sys.executable, "-c", "from vzero_server.model.backbone import *\n" + code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
    )
    return process.stdout


@pytest.mark.long
def test_a_cached_hub_model_loads_by_name_and_revision(tiny_model: Path, tmp_path: Path) -> None:
    """A filled cache of the hub needs no network."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(tiny_model, cached / "snapshots" / revision)
    (cached / "refs").mkdir()
    (cached / "refs" / "v1").write_text(revision)
    code = "print(Backbone.load('owner/tiny@v1').fingerprint)"
    assert run_in_process(code, HF_HOME=str(tmp_path)).strip() == (
        Backbone.load(str(tiny_model)).fingerprint
    )


@pytest.mark.long
def test_an_unreachable_hub_model_is_named(tmp_path: Path) -> None:
    code = "try: Backbone.load('owner/missing@v1')\nexcept BackboneError as error: print(error)"
    printed = run_in_process(code, HF_HOME=str(tmp_path))
    assert "'owner/missing@v1' is neither a local folder nor a model on the hub" in printed


@pytest.mark.long
@pytest.mark.skipif(
    not openvino.available(), reason="OpenVINO is missing: pip install 'vzero[openvino]'"
)
def test_openvino_gives_the_same_numbers(packaged: Backbone) -> None:
    prompts = ["What is 2 plus 3?", "a much longer prompt of many words " * 20, "x"]
    fast = Backbone.load(runtime="openvino")
    tokens = packaged.tokenize(prompts)
    for layers in ((), (2, 4, 6)):
        expected, compiled = packaged.states(tokens, layers), fast.states(tokens, layers)
        for compiled_states, expected_states in zip(compiled, expected, strict=True):
            np.testing.assert_allclose(compiled_states, expected_states, atol=1e-4)
    alone = fast.states(tokens[:1], (2,))[1]
    np.testing.assert_allclose(alone, packaged.states(tokens[:1], (2,))[1], atol=1e-4)


@pytest.mark.long
@pytest.mark.skipif(
    not openvino.available(), reason="OpenVINO is missing: pip install 'vzero[openvino]'"
)
def test_8_bit_weights_keep_embeddings_close(
    packaged: Backbone, capfd: pytest.CaptureFixture[str]
) -> None:
    prompts = ["What is 2 plus 3?", "Name a river in France.", "def f(x): return x + 1"]
    small = Backbone.load(dtype="int8", runtime="openvino")
    tokens = packaged.tokenize(prompts)
    expected, quantised = packaged.embed(tokens), small.embed(tokens)
    assert np.abs(expected - quantised).max() > 0
    assert (expected * quantised).sum(1).min() > 0.995
    assert capfd.readouterr().out == ""


def test_8_bits_need_openvino() -> None:
    with pytest.raises(BackboneError, match="int8 needs runtime openvino"):
        Backbone.load(dtype="int8")


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "available", lambda: False)
    with pytest.raises(BackboneError, match=r"vzero\[openvino\]"):
        Backbone.load(runtime="openvino")
    monkeypatch.undo()
