"""OpenVINO as a runtime of the backbone: the same numbers, faster on a CPU."""

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
ForwardPass = Callable[[dict[str, torch.Tensor], Sequence[int]], tuple[torch.Tensor, torch.Tensor]]

_INPUTS = ("input_ids", "attention_mask")

# With int8, weights and the activations of matrix products are quantised; all else is float32.
_PRECISIONS = {
    torch.float32: "f32",
    torch.bfloat16: "bf16",
    torch.float16: "f16",
    torch.int8: "f32",
}


def available() -> bool:
    """Whether OpenVINO is installed (``vzero[openvino]``)."""
    return find_spec("openvino") is not None and find_spec("nncf") is not None


class OpenVINORunner:
    """Runs forward passes with OpenVINO, compiled once per set of layers for any batch size."""

    def __init__(
        self, forward: ForwardPass, weights: torch.nn.Module, *, dtype: torch.dtype, threads: int
    ) -> None:
        """Set up the runtime; compilation happens on first use.

        Args:
            forward: ``Backbone.forward``, in float32.
            weights: Module with the weights of the pass.
            dtype: Number format of the compiled pass. With int8 the weights take 8 bits, and
                matrix products are computed in 8 bits if the processor can (VNNI, AMX).
            threads: Number of threads.
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
        """Embeddings and mean hidden states of a padded batch; see ``Backbone.states``."""
        key = tuple(layers)
        if key not in self._compiled:
            self._compiled[key] = self._compile(key)
        output = self._compiled[key]([batch[name].numpy() for name in _INPUTS])
        # Copies: the next pass overwrites the output buffers.
        pooled = np.array(output[0], np.float32)
        means = np.array(output[1], np.float32) if key else np.empty((len(pooled), 0), np.float32)
        return pooled, means

    def _compile(self, layers: tuple[int, ...]) -> Any:  # noqa: ANN401
        import openvino

        example = (torch.ones((2, 8), dtype=torch.int64), torch.ones((2, 8), dtype=torch.int64))
        with warnings.catch_warnings(), torch.no_grad():
            # Tracing warns about sizes that may have become constants; none do here.
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                _ForwardModule(self._forward, self._weights, layers), example, check_trace=False
            )
            model = openvino.convert_model(traced, example_input=example)
        if self._quantised:
            model = _quantise(model)
        return openvino.Core().compile_model(model, "CPU", self._hints)


def _quantise(model: Any) -> Any:  # noqa: ANN401
    """Compress the weights of a model to 8 bits."""
    # Turns off the telemetry of NNCF.
    os.environ.setdefault("NNCF_CI", "1")
    import nncf

    nncf.set_log_level(logging.ERROR)
    # NNCF prints progress bars.
    with contextlib.redirect_stdout(io.StringIO()):
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)


class _ForwardModule(torch.nn.Module):
    """A forward pass as a module with positional inputs, for conversion."""

    def __init__(
        self, forward: ForwardPass, weights: torch.nn.Module, layers: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.weights = weights
        self._pass = forward
        self._layers = layers

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pooled, means = self._pass(dict(zip(_INPUTS, tensors, strict=True)), self._layers)
        return (pooled, means) if self._layers else (pooled,)
