"""The frozen text encoder: pooled embeddings and hidden states of prompts."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from tokenizers import Tokenizer

from vzero_server.model import openvino, packing
from vzero_server.model.backbone_files import (
    PACKAGED,
    START_SHARE,
    BackboneError,
    backbone_digests,
    backbone_folder,
)
from vzero_server.model.device import resolve_device
from vzero_server.model.dtypes import DTYPES, resolve_dtype
from vzero_server.model.openvino import OpenVINORunner
from vzero_server.model.torchscript import TensorFunction, Tensors, trace
from vzero_server.types import Float32Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["PACKAGED", "Backbone", "BackboneError"]


class Backbone:
    """A sentence-transformers model, split into the steps that the engine schedules.

    Attributes:
        name: Name it was loaded by.
        dimension: Columns of an embedding.
        hidden: Columns of a hidden state.
        max_tokens: Maximum number of tokens of a prompt; longer prompts are cut.
        fingerprint: Hex digest of everything that determines an embedding: the model's files,
            its number format, and how long prompts are cut.
        weights: SHA-256 of its weight file, which identifies the heads that were trained on it;
            empty if the weights are in several files.
        packs: Whether batches are computed without padding. The cost of a batch is then
            proportional to its tokens, even if its prompts differ in length.
    """

    def __init__(
        self, name: str, model: "SentenceTransformer", fingerprint: str, weights: str = ""
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.weights = weights
        self._model = model.eval().requires_grad_(False)
        self._openvino: OpenVINORunner | None = None
        self._traced: dict[tuple[int, ...], TensorFunction] = {}
        self.packs = False
        # A copy: the model configures truncation and padding of its own tokenizer on each call.
        self._tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        dimension = model.get_embedding_dimension()
        max_tokens = model.max_seq_length
        if dimension is None or max_tokens is None:
            raise BackboneError(f"backbone {name}: embedding size or token limit is unknown")
        self.dimension = int(dimension)
        self.max_tokens = int(max_tokens)
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
            name: ``packaged``, a local folder, or a hub name with an optional ``@revision``. Only
                a hub name may access the network.
            device: Torch device, or ``auto`` for CUDA if available.
            dtype: ``float32``, ``bfloat16``, ``float16``, ``auto``, or with runtime ``openvino``
                also ``int8``.
            runtime: ``torch``, or on a CPU ``openvino``, which uses as many threads as torch.

        Raises:
            BackboneError: The files are missing or not a model, or the runtime cannot be used.
        """
        # Transformers accesses the hub even for local folders unless this is set before its
        # import, which reads it once.
        if name == PACKAGED or Path(name).is_dir():
            os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        folder = backbone_folder(name)
        # Imported here: the import takes seconds, and must follow the settings above.
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        # It warns about prompts above the token limit, which are normal here.
        logging.getLogger("transformers.tokenization_utils_base").setLevel(logging.ERROR)
        device = resolve_device(device)
        torch_dtype = DTYPES[resolve_dtype(dtype, device)]
        use_openvino = _check_runtime(runtime, device)
        if torch_dtype is torch.int8 and not use_openvino:
            raise BackboneError("dtype int8 needs runtime openvino")
        settings: dict[str, Any] = {"dtype": torch_dtype}
        if use_openvino:
            # OpenVINO converts the number format itself, and compiles plain attention best.
            settings = {"dtype": torch.float32, "attn_implementation": "eager"}
        try:
            model = SentenceTransformer(
                str(folder), device=device, local_files_only=True, model_kwargs=settings
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise BackboneError(f"backbone {name}: {reason}") from error
        backbone = cls(name, model, *backbone_digests(folder, dtype))
        if use_openvino:
            backbone._openvino = OpenVINORunner(
                backbone.forward, model, dtype=torch_dtype, threads=torch.get_num_threads()
            )
        elif packing.can_pack(model, device):
            packing.enable_packing(model)
            backbone.packs = True
        return backbone

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts, special tokens included, each at most ``max_tokens`` long.

        The beginning and the end of a longer prompt are kept (``START_SHARE``). Thread-safe;
        releases the GIL.
        """
        start = int(self.max_tokens * START_SHARE)
        end = self.max_tokens - start
        encoded = self._tokenizer.encode_batch_fast(list(prompts))
        rows = (encoding.ids for encoding in encoded)
        return [ids if len(ids) <= self.max_tokens else ids[:start] + ids[-end:] for ids in rows]

    @torch.inference_mode()
    def embed(self, tokens: Sequence[Sequence[int]]) -> Float32Array:
        """Pooled embeddings of one batch of tokenised prompts, ``[len(tokens), dimension]``.

        Not thread-safe.
        """
        return self.states(tokens, ())[0]

    @torch.inference_mode()
    def states(
        self, tokens: Sequence[Sequence[int]], layers: Sequence[int]
    ) -> tuple[Float32Array, Float32Array]:
        """Embeddings and mean hidden states of one batch, from one forward pass.

        Not thread-safe.

        Args:
            tokens: Tokenised prompts; padded to the longest unless the backbone ``packs``.
            layers: Which hidden states; 0 is the embedding layer.

        Returns:
            Pooled embeddings, ``[len(tokens), dimension]``, and for each layer the mean over
            tokens, not normalised, concatenated to ``[len(tokens), len(layers) * hidden]``.
        """
        if self.packs:
            forward = self._packed_forward(tuple(layers))
            pooled, means = forward(*packing.pack_batch(tokens, self._model))
        else:
            batch = self._padded_batch(tokens)
            if self._openvino is not None:
                return self._openvino(batch, layers)
            pooled, means = self.forward(batch, layers)
        return pooled.float().cpu().numpy(), means.float().cpu().numpy()

    def forward(
        self, batch: dict[str, torch.Tensor], layers: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Forward pass of a batch, padded or packed; returns tensors as ``states`` does arrays."""
        self._transformer.auto_model.config.output_hidden_states = bool(layers)
        output: dict[str, Any] = self._model(dict(batch))
        pooled: torch.Tensor = output["sentence_embedding"]
        mean = packing.prompt_means if self.packs else _masked_means
        means = [mean(output["all_layer_embeddings"][layer], batch) for layer in layers]
        return pooled, torch.cat([pooled[:, :0], *means], -1)

    def _packed_forward(self, layers: tuple[int, ...]) -> TensorFunction:
        """Traced forward pass of the tensors that ``packing.pack_batch`` returns."""

        def forward(*tensors: torch.Tensor) -> Tensors:
            return self.forward(packing.model_inputs(tensors), layers)

        if layers not in self._traced:
            examples = packing.example_batches(self._model)
            self._traced[layers] = trace(forward, examples, f"backbone {self.name}")
        return self._traced[layers]

    def _padded_batch(self, tokens: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        """Tokenised prompts padded to the longest, with their mask, on the device."""
        batch = self._model.tokenizer.pad({"input_ids": list(tokens)}, return_tensors="pt")
        return {key: value.to(self._model.device) for key, value in batch.items()}


def _masked_means(states: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Mean state of each prompt of a padded batch, ``[prompts, columns]``."""
    mask = batch["attention_mask"].unsqueeze(-1).float()
    return (states.float() * mask).sum(1) / mask.sum(1)


def _check_runtime(runtime: str, device: str) -> bool:
    """Whether OpenVINO runs the model.

    Raises:
        BackboneError: OpenVINO is requested but not installed, or not for this device.
    """
    if runtime != "openvino":
        return False
    if not openvino.available():
        raise BackboneError("runtime openvino is not installed: pip install 'vzero[openvino]'")
    if device != "cpu":
        raise BackboneError(f"runtime openvino runs on the CPU, not on device {device}")
    return True
