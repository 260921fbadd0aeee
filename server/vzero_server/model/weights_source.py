"""Sources of model weights: a local path, or a file or repository on a model hub."""

import re
from dataclasses import dataclass
from pathlib import Path

_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<path>[^@#]+))?(?:@(?P<revision>[^#]+))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Files of a repository that a backbone is loaded from.
_BACKBONE_SUFFIXES = {".json", ".txt", ".safetensors", ".model"}


class WeightsError(Exception):
    """Weights are missing, altered or wrongly specified."""


@dataclass(frozen=True)
class Source:
    """A source of weights.

    Attributes:
        text: The source as specified.
        local: Path on this machine; None for a source on the hub.
        repository: ``owner/name`` on the hub.
        path: A file of the repository; empty for all files of a backbone.
        revision: Commit, tag or branch.
        checksum: SHA-256 of the file; empty if not specified.
    """

    text: str
    local: Path | None
    repository: str = ""
    path: str = ""
    revision: str = "main"
    checksum: str = ""

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Parse ``PATH`` or ``owner/name[/file][@revision]``, each with an optional ``#sha256``.

        Raises:
            WeightsError: The text has neither form, or the checksum is malformed.
        """
        location, marker, checksum = text.partition("#")
        if marker and not _SHA256.fullmatch(checksum):
            raise WeightsError(f"{text}: a SHA-256 of 64 hex digits must follow the #")
        try:
            path = Path(location).expanduser()
        except RuntimeError as error:
            raise WeightsError(f"{text}: the home directory is unknown") from error
        if location and (path.exists() or location.startswith((".", "/", "~"))):
            return cls(text, path, checksum=checksum)
        match = _HUB.fullmatch(location)
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

    def folder(self, weights_folder: Path) -> Path:
        """Folder of its repository and revision below the folder of all weights."""
        return weights_folder.expanduser() / self.repository / self.revision.replace("/", "--")

    def includes(self, name: str) -> bool:
        """Whether a file of the repository belongs to this source."""
        if self.path:
            return name == self.path
        return "/" not in name and Path(name).suffix in _BACKBONE_SUFFIXES
