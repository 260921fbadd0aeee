"""Profiles: their precedence, their weights, and the paper's pipeline on small weights."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import vzero
from tests.paper.test_tabpfn_file import MaliciousPickle
from tests.tiny_hub import tiny_hub
from tests.tiny_qwen import (
    ADAPTER,
    HIDDEN,
    save_released_file,
    save_tiny_qwen,
    trained_adapter,
)
from tests.tiny_tabpfn import save_tiny_tabpfn
from vzero.cli import main
from vzero_server.app import load_estimators, load_models
from vzero_server.engine.estimators.registry import LoadedEstimators
from vzero_server.model.checkpoint import CheckpointError
from vzero_server.model.oom import OomGuard
from vzero_server.model.weights_source import WeightsError
from vzero_server.paper.adapter_encoder import AdapterEncoder
from vzero_server.paper.adapter_file import read_adapter
from vzero_server.paper.tabpfn import TabPFNHead
from vzero_server.paper.tabpfn_file import read_tabpfn
from vzero_server.paper.token_backbone import TokenBackbone
from vzero_server.settings import PROFILES, Settings
from vzero_server.testing.local_server import LocalServer

NAMES = {
    "backbone": "tiny/qwen",
    "adapter": "tiny/v0/v_0_for_grpo_training.pt",
    "tabpfn": "tiny/head/pretrained/head.ckpt@v1",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights in the folder layout of repositories of a hub."""
    folder = tmp_path_factory.mktemp("hub")
    for name in ("qwen", "v0", "head/pretrained"):
        (folder / name).mkdir(parents=True)
    save_tiny_qwen(folder / "qwen")
    save_released_file(folder / "v0/v_0_for_grpo_training.pt", prefix="module.")
    save_tiny_tabpfn(folder / "head/pretrained/head.ckpt")
    return folder


@pytest.fixture
def profile(weights: Path, tmp_path: Path) -> Path:
    """A profile that names local files."""
    path = tmp_path / "tiny.toml"
    path.write_text(
        f'backbone = "{weights}/qwen"\n'
        f'adapter = "{weights}/v0/v_0_for_grpo_training.pt"\n'
        f'tabpfn = "{weights}/head/pretrained/head.ckpt"\n'
        'head = "none"\n'
        "context_rows = 32\n"
    )
    return path


def test_the_packaged_profiles_are_valid_settings() -> None:
    assert {path.stem for path in PROFILES.glob("*.toml")} == {"compact", "paper"}
    assert Settings.load(None).model_dump() == Settings().model_dump()
    paper = Settings.load(None, profile="paper")
    assert paper.backbone == "Qwen/Qwen3-Embedding-0.6B"
    assert (paper.tabpfn_members, paper.context_rows, paper.head) == (4, 256, "none")


def test_every_other_source_of_a_setting_takes_precedence_over_the_profile(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'profile = "{profile}"\nknn_k = 5\n')
    assert Settings.load(config).context_rows == 32
    assert Settings.load(config).knn_k == 5
    config.write_text(f'profile = "{profile}"\ncontext_rows = 33\n')
    assert Settings.load(config).context_rows == 33
    monkeypatch.setenv("VZERO_CONTEXT_ROWS", "34")
    assert Settings.load(config).context_rows == 34
    assert Settings.load(config, context_rows=35).context_rows == 35
    monkeypatch.setenv("VZERO_PROFILE", "paper")
    assert Settings.load(None).tabpfn.startswith("Prior-Labs/")


def test_incompatible_settings_are_named_in_the_error(profile: Path, tmp_path: Path) -> None:
    def error(**flags: object) -> str:
        with pytest.raises(ValidationError) as raised:
            Settings.load(None, profile=str(profile), **flags)
        return str(raised.value)

    assert "set adapter as well" in error(adapter="none")
    assert "set it to none" in error(head="some.safetensors")
    assert "adapter needs the backbone it was trained on" in error(backbone="packaged")
    assert "adapter needs runtime torch" in error(runtime="openvino")
    assert "64 hex digits" in error(adapter="some/body/file.pt#12")
    with pytest.raises(FileNotFoundError, match="neither a profile"):
        Settings.load(None, profile="other")


def settings_of(profile: Path, tmp_path: Path, **flags: object) -> Settings:
    return Settings.load(None, profile=str(profile), models_dir=tmp_path / "models", **flags)


def load_all(settings: Settings) -> LoadedEstimators:
    """Load the models of settings as a server does."""
    return load_estimators(settings, load_models(settings), OomGuard(lambda: None))


def test_the_adapter_and_the_head_of_a_profile_are_loaded(
    profile: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(profile, tmp_path)
    models = load_models(settings)
    assert isinstance(models.encoder, AdapterEncoder)
    assert models.encoder.columns == HIDDEN + ADAPTER.features
    assert list(load_all(settings)) == ["tabpfn", "knn"]
    assert "head.ckpt are under a non-commercial licence of Prior Labs" in caplog.text


def test_served_values_equal_those_of_the_separate_parts(
    weights: Path, profile: Path, tmp_path: Path
) -> None:
    """Tokens, states, adapter and TabPFN: over gRPC, and in a few lines of float32."""
    generator = np.random.default_rng(0)
    prompts = [f"What is {a} times {b}?" for a, b in generator.integers(0, 999, (24, 2))]
    rewards = generator.random(16)
    rewards[:2] = [0.1, 0.9]
    settings = {"profile": profile, "tabpfn_cache_dtype": "float32"}
    with (
        LocalServer(tmp_path / "data", **settings) as server,
        vzero.Client(server.address) as client,
    ):
        client.update("run", prompts[:16], rewards)
        values = client.predict("run", prompts[16:], estimator="TABPFN")
        knn = client.predict("run", prompts[16:], estimator="KNN")
        client.update("certain", prompts[:16], np.ones(16))
        certain = client.predict("certain", prompts[16:], estimator="TABPFN")
    assert set(values.basis) == {"TABPFN"}
    assert set(knn.basis) == {"KNN"}
    assert set(certain.basis) == {"PRIOR"}
    np.testing.assert_allclose(certain.mean, 17 / 18)
    backbone = TokenBackbone.load(weights / "qwen")
    encoder = AdapterEncoder(backbone, read_adapter(weights / "v0/v_0_for_grpo_training.pt"))
    features = torch.from_numpy(encoder.embed(encoder.tokenize(prompts))[:, HIDDEN:]).float()
    network = read_tabpfn(weights / "head/pretrained/head.ckpt")
    head = TabPFNHead(network, columns=ADAPTER.features)
    labels = torch.from_numpy(rewards >= 0.5).long()
    with torch.no_grad():
        logits = head(features[None, :16], labels[None], features[None, 16:])
    expected = logits[0].softmax(-1)[:, 1].numpy()
    np.testing.assert_allclose(values.mean, expected, atol=2e-3)
    assert expected.std() > 0.005


def vzero_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from vzero.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.long
def test_models_can_be_listed_pulled_verified_and_loaded(weights: Path, tmp_path: Path) -> None:
    """From an empty folder, with a hub only for the pull."""
    profile, folder = tmp_path / "hub.toml", tmp_path / "models"
    lines = [f'{name} = "{source}"\n' for name, source in NAMES.items()]
    profile.write_text("".join([*lines, 'head = "none"\n']))
    options = ("--profile", str(profile), "--models-dir", str(folder))
    listed = vzero_command("models", "list", *options, "--json")
    assert listed.returncode == 1
    states = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {entry["setting"]: entry["source"] for entry in states} == NAMES
    assert {entry["state"] for entry in states} == {"missing"}
    settings = Settings.load(None, profile=str(profile), models_dir=folder)
    with pytest.raises(Exception, match="fetch it with vzero models pull 'tiny/qwen'"):
        load_models(settings)
    with tiny_hub() as hub:
        for name in ("qwen", "v0", "head"):
            hub.add(f"tiny/{name}", weights / name)
        pulled = vzero_command("models", "pull", *options, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="0")
        assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout.count("verified") == 3
    assert "tabpfn" in load_all(settings)
    (folder / "tiny/v0/main/v_0_for_grpo_training.pt").write_bytes(b"altered")
    verified = vzero_command("models", "verify", *options)
    assert verified.returncode == 1
    assert "wrong checksum" in verified.stdout
    served = vzero_command(
        "serve",
        "--profile",
        str(profile),
        "--data-dir",
        str(tmp_path),
        VZERO_MODELS_DIR=str(folder),
    )
    assert served.returncode == 1
    assert "v_0_for_grpo_training.pt: wrong checksum" in served.stderr


def test_models_without_a_checksum_are_not_reported_as_verified(
    profile: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verified(*sources: str) -> list[str]:
        with pytest.raises(SystemExit) as exited:
            main(["models", "verify", *sources, "--profile", str(profile)])
        assert not exited.value.code
        return capsys.readouterr().out.splitlines()

    assert all("present, no checksum to verify it by" in line for line in verified())
    head = weights / "head/pretrained/head.ckpt"
    (line,) = verified(f"{head}#{sha256(head.read_bytes()).hexdigest()}")
    assert f": verified {head}" in line


@pytest.mark.parametrize(
    ("setting", "content", "message"),
    [
        ("tabpfn", "missing", "no such file or folder"),
        ("tabpfn", "code", "could run code and is refused"),
        ("tabpfn", "few columns", "at most 29 feature columns, the adapter makes 30"),
        ("tabpfn", "few rows", "setting context_rows: the head reads at most 31 rows, not 32"),
        ("tabpfn", "checksum", "wrong checksum"),
        ("adapter", "missing", "no such file or folder"),
        ("adapter", "code", "could run code and is refused"),
        ("adapter", "hidden", "reads token states of 24 columns; those of backbone"),
    ],
)
def test_weights_that_cannot_be_loaded_are_named_in_the_error(
    profile: Path, tmp_path: Path, setting: str, content: str, message: str
) -> None:
    path = tmp_path / "given.pt"
    value = str(path)
    limits = {"few columns": "FEATURES", "few rows": "SAMPLES"}
    if content in limits:
        most = {f"MAX_NUMBER_OF_{limits[content]}": 29 if content == "few columns" else 31}
        save_tiny_tabpfn(path, inference_config=most)
    elif content == "code":
        torch.save({"model_state_dict": MaliciousPickle(tmp_path / "touched")}, path)
    elif content == "checksum":
        value = f"{save_tiny_tabpfn(path)}#{'0' * 64}"
    elif content == "hidden":
        save_released_file(path, trained_adapter(replace(ADAPTER, hidden=24)))
    # ``vzero serve`` prints the error in one line before it exits.
    with pytest.raises((CheckpointError, WeightsError), match=message):
        load_all(settings_of(profile, tmp_path, **{setting: value}))
    assert not (tmp_path / "touched").exists()


def test_loading_does_not_connect_to_a_network(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert "tabpfn" in load_all(settings_of(profile, tmp_path))


def test_convert_writes_the_other_file_format(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = weights / "v0/v_0_for_grpo_training.pt", tmp_path / "v0.safetensors"

    def convert(*arguments: object) -> int:
        with pytest.raises(SystemExit) as exited:
            main(["convert", *map(str, arguments)])
        return int(exited.value.code or 0)

    assert convert(source, target) == 0
    assert "5 queries of 6 columns, 3 heads" in capsys.readouterr().out
    assert read_adapter(target).fingerprint == read_adapter(source).fingerprint
    assert convert(target, tmp_path / "back.pt") == 0
    assert read_adapter(tmp_path / "back.pt").fingerprint == read_adapter(source).fingerprint
    assert convert(source, target) == 2
    assert "exists already" in capsys.readouterr().err
    assert convert(source, target, "--force", "--without-backbone") == 0
    assert convert(source, tmp_path / "v0.bin") == 2
    assert convert(source, tmp_path / "not" / "there.pt") == 2
    assert "does not exist" in capsys.readouterr().err
    assert convert(tmp_path / "missing.pt", tmp_path / "x.pt") == 2
    assert "no such file" in capsys.readouterr().err
