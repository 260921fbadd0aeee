"""Where weights are: on this machine, or on a model hub from which they are fetched first.

Only ``pull`` touches the network. What it fetches lies below one folder, with a list of its
files and their checksums, so that the folder can be carried to a machine without a network.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

_LIST = ".vzero-files.json"
# Of a whole repository, what a backbone is loaded from.
_WANTED = {".json", ".txt", ".safetensors", ".model"}
_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<path>[^@#]+))?(?:@(?P<revision>[^#]+))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class WeightsError(Exception):
    """Weights are missing, or not those that were meant."""


@dataclass(frozen=True)
class Source:
    """Where weights come from.

    Attributes:
        text: As it was given.
        local: The path on this machine; None for the hub.
        repository: ``owner/name`` on the hub.
        path: A file of the repository; empty for all that a backbone needs.
        revision: Commit, tag or branch.
        checksum: SHA-256 of the file, empty if none was given.
    """

    text: str
    local: Path | None
    repository: str = ""
    path: str = ""
    revision: str = "main"
    checksum: str = ""

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read ``PATH`` or ``owner/name[/file][@revision]``, either with ``#sha256`` behind.

        Raises:
            WeightsError: It is neither, or the checksum is none.
        """
        where, marked, checksum = text.partition("#")
        if marked and not _SHA256.fullmatch(checksum):
            raise WeightsError(f"{text}: behind the # stand the 64 hex digits of a SHA-256")
        try:
            path = Path(where).expanduser()
        except RuntimeError as error:
            raise WeightsError(f"{text}: nobody has such a home directory") from error
        if where and (path.exists() or where.startswith((".", "/", "~"))):
            return cls(text, path, checksum=checksum)
        match = _HUB.fullmatch(where)
        if match is None:
            raise WeightsError(f"{text}: neither a path nor owner/name[/file][@revision]")
        return cls(
            text,
            None,
            match["repository"],
            match["path"] or "",
            match["revision"] or "main",
            checksum,
        )

    def place(self, folder: Path) -> Path:
        """Where its repository lies below the folder of all weights."""
        return folder.expanduser() / self.repository / self.revision.replace("/", "--")


@dataclass(frozen=True)
class Listed:
    """One file that was fetched: its path below the repository's place, and what it held."""

    path: str
    size: int
    sha256: str


def locate(source: Source, folder: Path) -> Path:
    """The file or folder on this machine, its checksums verified; never fetches.

    Raises:
        WeightsError: It is missing, incomplete or altered.
    """
    if source.local is not None:
        if not source.local.exists():
            raise WeightsError(f"{source.text}: no such file or folder")
        found = source.local
    else:
        place = source.place(folder)
        found = place / source.path
        if not found.exists() or not (listed := list(_listed(source, place))):
            raise WeightsError(
                f"{source.text} is not on this machine: fetch it with "
                f"vzero models pull '{source.text}'"
            )
        for one in listed:
            _check(place / one.path, one.sha256, source)
    if source.checksum:
        if found.is_dir():
            raise WeightsError(f"{source.text}: a checksum is for one file, not for a folder")
        _check(found, source.checksum, source)
    return found


def pull(source: Source, folder: Path, *, endpoint: str | None = None) -> list[Listed]:
    """Fetch what is missing; a file whose checksum is right is not fetched again.

    Args:
        source: Of the hub.
        folder: Of all weights.
        endpoint: URL of the hub; that of Hugging Face, or ``HF_ENDPOINT``, by default.

    Raises:
        WeightsError: The hub does not have it, does not let us have it, or sent something
            else than it says.
    """
    if source.local is not None:
        raise WeightsError(f"{source.text}: a path on this machine; there is nothing to fetch")
    # Late: serving needs none of it.
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    place = source.place(folder)
    try:
        info = HfApi(endpoint=endpoint).model_info(
            source.repository, revision=source.revision, files_metadata=True
        )
        names = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        wanted = [name for name in sorted(names) if _is_wanted(name, source)]
        if not wanted:
            raise WeightsError(f"{source.text}: the hub has no such file")
        fetched = []
        for name in wanted:
            # Of the commit that was looked at, whatever the branch says by now.
            hf_hub_download(
                source.repository, name, revision=info.sha, local_dir=place, endpoint=endpoint
            )
            digest = _digest(place / name)
            stored = names[name].lfs
            promised = {source.checksum, stored.sha256 if stored else ""} - {""}
            if promised - {digest}:
                (place / name).unlink()
                raise WeightsError(f"{source.text}: {name} has SHA-256 {digest}, not {promised}")
            fetched.append(Listed(name, (place / name).stat().st_size, digest))
    except GatedRepoError as error:
        raise WeightsError(
            f"{source.text}: its licence must be accepted first, on "
            f"https://huggingface.co/{source.repository}, by the account whose token is in HF_TOKEN"
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # The errors of its HTTP library have no base of their own.
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise WeightsError(f"{source.text}: the hub did not deliver: {reason}") from error
    known = _read(place)
    files = known.get("files", {}) | {one.path: [one.size, one.sha256] for one in fetched}
    content = {"repository": source.repository, "commit": info.sha, "files": files}
    # At once: a list that is cut off would make all that was fetched useless.
    partial = place / f"{_LIST}.partial"
    partial.write_text(json.dumps(content, indent=1, sort_keys=True))
    partial.replace(place / _LIST)
    return fetched


def _is_wanted(name: str, source: Source) -> bool:
    if source.path:
        return name == source.path
    return "/" not in name and Path(name).suffix in _WANTED


def _listed(source: Source, place: Path) -> Iterator[Listed]:
    for path, (size, digest) in _read(place).get("files", {}).items():
        if _is_wanted(path, source):
            yield Listed(path, size, digest)


def _read(place: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((place / _LIST).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise WeightsError(f"{place / _LIST}: damaged; remove the folder and fetch anew") from error
    return content


def _check(path: Path, expected: str, source: Source) -> None:
    if not path.is_file():
        raise WeightsError(
            f"{path} is missing: fetch it again with vzero models pull '{source.text}'"
        )
    digest = _digest(path)
    if digest != expected:
        raise WeightsError(f"{path}: wrong checksum: SHA-256 {digest} is not {expected}")


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    return digest.hexdigest()
