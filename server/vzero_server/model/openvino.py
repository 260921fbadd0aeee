"""A backbone's passes compiled by OpenVINO: the same numbers on a processor, sooner."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from vzero_server.types import Float32Array

Batch = Mapping[str, torch.Tensor]
Pass = Callable[[dict[str, torch.Tensor], Sequence[int]], tuple[torch.Tensor, torch.Tensor]]

# Weights of int8 are unpacked, and the activations of a product quantised with them, as it
# is computed; all else is computed in float32.
_PRECISIONS = {
    torch.float32: "f32",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
    torch.int8: "f32",
}


def available() -> bool:
    """Whether OpenVINO is installed (``vzero[openvino]``)."""
    return find_spec("openvino") is not None and find_spec("nncf") is not None


class CompiledPasses:
    """Compiles the pass of a backbone, once for each set of layers, lengths left open."""

    def __init__(
        self, forward: Pass, weights: torch.nn.Module, *, dtype: torch.dtype, threads: int
    ) -> None:
        """Take a pass in float32.

        Args:
            forward: ``Backbone.forward``.
            weights: The module it runs.
            dtype: What the compiled pass computes in. With int8 the weights are held in 8 bits,
                and products are computed in 8 bits where the processor can (VNNI, AMX).
            threads: It computes with.
        """
        self._forward = forward
        self._weights = weights
        self._quantised = dtype is torch.int8
        self._hints = {
            "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        }
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, batch: Batch, layers: Sequence[int]) -> tuple[Float32Array, Float32Array]:
        """Embeddings and layer means of a padded batch, as ``Backbone.states``."""
        key = tuple(layers)
        if key not in self._compiled:
            self._compiled[key] = self._compile(key)
        out = self._compiled[key]([batch[name].numpy() for name in _INPUTS])
        # Copied: the next pass writes into the same memory.
        pooled = np.array(out[0], np.float32)
        means = np.array(out[1], np.float32) if key else np.empty((len(pooled), 0), np.float32)
        return pooled, means

    def _compile(self, layers: tuple[int, ...]) -> Any:  # noqa: ANN401
        import openvino

        example = (torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64))
        with warnings.catch_warnings(), torch.no_grad():
            # Tracing warns of shapes that might have become constants; none of ours do.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                _Traced(self._forward, self._weights, layers), example, check_trace=False
            )
            model = openvino.convert_model(traced, example_input=example)
        if self._quantised:
            model = _in_8_bits(model)
        return openvino.Core().compile_model(model, "CPU", self._hints)


def _in_8_bits(model: Any) -> Any:  # noqa: ANN401
    # It reports to its makers unless told that nobody is there.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    nncf.set_log_level(logging.ERROR)
    # Its progress bars are none of ours.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)


_INPUTS = ("input_ids", "attention_mask")


class _Traced(torch.nn.Module):
    def __init__(self, forward: Pass, weights: torch.nn.Module, layers: tuple[int, ...]) -> None:
        super().__init__()
        self.weights = weights
        self._pass = forward
        self._layers = layers

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled, means = self._pass(dict(zip(_INPUTS, tensors, strict=True)), self._layers)
        return (pooled, means) if self._layers else (pooled,)
