"""Download of weights from a model hub; the only module that may access the network."""

from pathlib import Path

from vzero_server.model.weights_folder import WeightsFile, file_digest, update_manifest
from vzero_server.model.weights_source import Source, WeightsError


def pull(source: Source, weights_folder: Path, *, endpoint: str | None = None) -> list[WeightsFile]:
    """Fetch the files of a source; files with the right checksum are not fetched again.

    Args:
        source: A source on the hub.
        weights_folder: Folder of all weights.
        endpoint: URL of the hub; by default ``HF_ENDPOINT`` or Hugging Face.

    Raises:
        WeightsError: The hub does not have the files, denies access, cannot be reached, or sent
            files with other checksums.
    """
    if source.local is not None:
        raise WeightsError(f"{source.text} is a path on this machine; nothing to fetch")
    # Imported here: the server does not need it.
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import GatedRepoError

    folder = source.folder(weights_folder)
    try:
        info = HfApi(endpoint=endpoint).model_info(
            source.repository, revision=source.revision, files_metadata=True
        )
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        names = [name for name in sorted(siblings) if source.includes(name)]
        if not names:
            raise WeightsError(f"{source.text}: the hub has no such file")
        fetched = []
        for name in names:
            # By commit: the branch may move during the download.
            hf_hub_download(
                source.repository, name, revision=info.sha, local_dir=folder, endpoint=endpoint
            )
            digest = file_digest(folder / name)
            lfs = siblings[name].lfs
            expected = {source.checksum, lfs.sha256 if lfs else ""} - {""}
            if expected - {digest}:
                (folder / name).unlink()
                raise WeightsError(
                    f"{source.text}: {name} has SHA-256 {digest}, "
                    f"expected {' and '.join(sorted(expected))}"
                )
            fetched.append(WeightsFile(name, (folder / name).stat().st_size, digest))
    except GatedRepoError as error:
        raise WeightsError(
            f"{source.text}: accept its licence first, on "
            f"https://huggingface.co/{source.repository}, with the account whose token is in "
            "HF_TOKEN"
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # The errors of the HTTP library have no common base.
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise WeightsError(f"{source.text}: download failed: {reason}") from error
    update_manifest(folder, source.repository, info.sha, fetched)
    return fetched
