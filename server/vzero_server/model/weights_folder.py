"""Weights on this machine: files fetched from a hub, and a manifest with their checksums.

All fetched files are below one folder, each repository with a manifest, so that the folder can be
copied to a machine without network access.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from vzero_server.model.weights_source import Source, WeightsError

_MANIFEST = ".vzero-files.json"
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class WeightsFile:
    """A fetched file: its path below the folder of its repository, size and SHA-256."""

    path: str
    size: int
    sha256: str


def locate(source: Source, weights_folder: Path) -> Path:
    """Path of a file or folder on this machine, with verified checksums; never fetches.

    Args:
        source: The source.
        weights_folder: Folder of all weights.

    Raises:
        WeightsError: The weights are missing, incomplete or altered.
    """
    if source.local is not None:
        if not source.local.exists():
            raise WeightsError(f"{source.text}: no such file or folder")
        path = source.local
    else:
        folder = source.folder(weights_folder)
        path = folder / source.path
        files = [file for file in read_manifest(folder) if source.includes(file.path)]
        if not path.exists() or not files:
            raise WeightsError(
                f"{source.text} is not on this machine; fetch it with "
                f"vzero models pull '{source.text}'"
            )
        for file in files:
            _verify(folder / file.path, file.sha256, source)
    if source.checksum:
        if path.is_dir():
            raise WeightsError(f"{source.text}: a checksum is for a file, not for a folder")
        _verify(path, source.checksum, source)
    return path


def read_manifest(folder: Path) -> list[WeightsFile]:
    """Files that the manifest of a repository's folder lists; empty without a manifest.

    Raises:
        WeightsError: The manifest is damaged.
    """
    try:
        content: dict[str, Any] = json.loads((folder / _MANIFEST).read_text())
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise WeightsError(
            f"{folder / _MANIFEST} is damaged; remove the folder and fetch again"
        ) from error
    files: dict[str, tuple[int, str]] = content.get("files", {})
    return [WeightsFile(path, size, digest) for path, (size, digest) in files.items()]


def update_manifest(
    folder: Path, repository: str, commit: str | None, fetched: Sequence[WeightsFile]
) -> None:
    """Add files to the manifest of a repository's folder, atomically.

    Raises:
        WeightsError: The manifest is damaged.
    """
    files = {file.path: [file.size, file.sha256] for file in (*read_manifest(folder), *fetched)}
    content = {"repository": repository, "commit": commit, "files": files}
    # A truncated manifest would make all fetched files unusable.
    partial = folder / f"{_MANIFEST}.partial"
    partial.write_text(json.dumps(content, indent=1, sort_keys=True))
    partial.replace(folder / _MANIFEST)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _verify(path: Path, expected: str, source: Source) -> None:
    if not path.is_file():
        raise WeightsError(
            f"{path} is missing; fetch it again with vzero models pull '{source.text}'"
        )
    digest = file_digest(path)
    if digest != expected:
        raise WeightsError(f"{path}: wrong checksum: SHA-256 {digest}, expected {expected}")
