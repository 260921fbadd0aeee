import json
import socket
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.tiny_hub import COMMIT, TinyHub, tiny_hub
from vzero_server.model.hub import pull
from vzero_server.model.weights_folder import locate
from vzero_server.model.weights_source import Source, WeightsError

OFFLINE = "huggingface_hub.constants.HF_HUB_OFFLINE"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyHub]:
    # Loading a model in this process sets it.
    monkeypatch.setattr(OFFLINE, False)
    with tiny_hub() as running:
        running.files = {
            "some/body/config.json": b"{}",
            "some/body/model.safetensors": b"weights",
            "some/body/README.md": b"not wanted",
            "some/body/onnx/model.safetensors": b"not wanted either",
            "some/body/deep/adapter.pt": b"adapter",
        }
        yield running


def test_pulled_files_are_located_without_the_hub(hub: TinyHub, tmp_path: Path) -> None:
    whole, single = Source.parse("some/body"), Source.parse("some/body/deep/adapter.pt@v1")
    assert {file.path for file in pull(whole, tmp_path, endpoint=hub.url)} == {
        "config.json",
        "model.safetensors",
    }
    pull(single, tmp_path, endpoint=hub.url)
    # By commit, not by branch.
    assert f"some/body/resolve/{COMMIT}/model.safetensors" in hub.requests
    hub.requests.clear()
    assert (locate(whole, tmp_path) / "model.safetensors").read_bytes() == b"weights"
    assert locate(single, tmp_path).read_bytes() == b"adapter"
    pinned = Source.parse(f"{single.text}#{sha256(b'adapter').hexdigest()}")
    assert locate(pinned, tmp_path) == locate(single, tmp_path)
    assert hub.requests == []


def test_complete_files_are_not_fetched_again(hub: TinyHub, tmp_path: Path) -> None:
    source = Source.parse("some/body/deep/adapter.pt")
    first = pull(source, tmp_path, endpoint=hub.url)
    hub.requests.clear()
    assert pull(source, tmp_path, endpoint=hub.url) == first
    assert not [path for path in hub.requests if "resolve" in path]


def test_missing_files_are_named_with_the_command_to_fetch_them(
    hub: TinyHub, tmp_path: Path
) -> None:
    source = Source.parse("some/body")
    with pytest.raises(WeightsError, match="fetch it with vzero models pull 'some/body'"):
        locate(source, tmp_path)
    pull(source, tmp_path, endpoint=hub.url)
    (source.folder(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model.safetensors is missing; fetch it again"):
        locate(source, tmp_path)
    with pytest.raises(WeightsError, match=r"not/there.pt: no such file or folder"):
        locate(Source.parse("./not/there.pt"), tmp_path)


def test_altered_files_are_refused(hub: TinyHub, tmp_path: Path) -> None:
    source = Source.parse("some/body")
    pull(source, tmp_path, endpoint=hub.url)
    path = source.folder(tmp_path) / "model.safetensors"
    path.write_bytes(b"wEights")
    with pytest.raises(WeightsError, match=r"model.safetensors: wrong checksum"):
        locate(source, tmp_path)
    local = tmp_path / "local.pt"
    local.write_bytes(b"local")
    assert locate(Source.parse(f"{local}#{sha256(b'local').hexdigest()}"), tmp_path) == local
    with pytest.raises(WeightsError, match=r"local.pt: wrong checksum"):
        locate(Source.parse(f"{local}#{'0' * 64}"), tmp_path)
    with pytest.raises(WeightsError, match="not for a folder"):
        locate(Source.parse(f"{tmp_path}#{'0' * 64}"), tmp_path)
    (source.folder(tmp_path) / ".vzero-files.json").write_text("{")
    with pytest.raises(WeightsError, match="damaged"):
        locate(source, tmp_path)


def test_failed_downloads_are_named(hub: TinyHub, tmp_path: Path) -> None:
    def error(text: str) -> str:
        with pytest.raises(WeightsError) as raised:
            pull(Source.parse(text), tmp_path, endpoint=hub.url)
        return str(raised.value)

    assert "download failed" in error("no/body")
    assert "no such file" in error("some/body/other.pt")
    assert "nothing to fetch" in error(str(tmp_path))
    hub.wrong.add("some/body/deep/adapter.pt")
    assert "has SHA-256" in error("some/body/deep/adapter.pt")
    hub.wrong.clear()
    assert "has SHA-256" in error(f"some/body/deep/adapter.pt#{'0' * 64}")
    with pytest.raises(WeightsError, match="is not on this machine"):
        locate(Source.parse("some/body/deep/adapter.pt"), tmp_path)
    hub.gated.add("some/body")
    assert "accept its licence first" in error("some/body")


def test_an_unreachable_hub_is_named(hub: TinyHub, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listening
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(WeightsError, match="some/body: download failed: "):
            pull(Source.parse("some/body"), tmp_path, endpoint=endpoint)


def test_the_manifest_lists_fetched_files(hub: TinyHub, tmp_path: Path) -> None:
    source = Source.parse("some/body@v1")
    pull(source, tmp_path, endpoint=hub.url)
    listed = json.loads((tmp_path / "some/body/v1/.vzero-files.json").read_text())
    assert listed["commit"] == COMMIT
    assert not list((tmp_path / "some/body/v1").glob("*.partial"))
    assert listed["files"]["config.json"] == [2, sha256(b"{}").hexdigest()]


def test_offline_mode_sends_no_requests(
    hub: TinyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OFFLINE, True)
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        pull(Source.parse("some/body"), tmp_path, endpoint=hub.url)
    assert hub.requests == []
