"""Checkpoints of TabPFN: read without running code, with their limits and their licence."""

import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from vzero_server.model.checkpoint import CheckpointError

_NON_COMMERCIAL = "a non-commercial licence of Prior Labs"
LICENCES: Mapping[str, str] = {
    "tabpfn_v2": "the Prior Labs License (Apache-2.0 with attribution)",
    "tabpfn_v2_5": _NON_COMMERCIAL,
    "tabpfn_v2_6": _NON_COMMERCIAL,
    "tabpfn_v3": _NON_COMMERCIAL,
    "tabpfn_v3_5": _NON_COMMERCIAL,
}
"""What the weights of each architecture are under, in the order of their release."""
# Of our own, in the header of what save_tabpfn writes.
_LICENCE, _LIMITS = "licence", "limits"


@dataclass(frozen=True)
class TabPFNFile:
    """What a checkpoint of a TabPFN classifier holds.

    Attributes:
        path: Where it was read from.
        net: The network, in evaluation mode, its parameters frozen.
        architecture: Name of the architecture, a key of ``LICENCES``.
        config: What the network was made of, as the package ``tabpfn`` reads it.
        licence: What the weights are under, for people.
        temperature: What logits are divided by before the softmax.
        most_rows: Rows of a context it was trained for.
        most_columns: Feature columns it was trained for.
    """

    path: Path
    net: nn.Module
    architecture: str
    config: Mapping[str, Any]
    licence: str
    temperature: float
    most_rows: int
    most_columns: int

    @property
    def commercial(self) -> bool:
        """Whether that allows commercial use."""
        return self.licence != _NON_COMMERCIAL


def read_tabpfn(path: Path) -> TabPFNFile:
    """Read a checkpoint in either of TabPFN's formats, ``.ckpt`` or ``.safetensors``.

    Raises:
        CheckpointError: The package ``tabpfn`` is not installed; the file is missing or
            truncated, holds more than weights, is of an unknown architecture, no
            classifier, or holds settings or weights that make none.
    """
    try:
        # Late: it takes seconds, and is an extra.
        from tabpfn.architectures import ARCHITECTURES
        from tabpfn.constants import ModelVersion
        from tabpfn.inference_config import InferenceConfig
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path}: a TabPFN head needs the package tabpfn: pip install 'vzero[tabpfn]'"
        ) from error
    content = _content(path)
    # The first release named none, the second the implementation it came from.
    name = str(content.get("architecture_name", "tabpfn_v2"))
    name = "tabpfn_v2_5" if name == "base" else name
    if name not in LICENCES:
        known = ", ".join(LICENCES)
        raise CheckpointError(f"{path}: architecture {name!r} is unknown; there are {known}")
    if not {"state_dict", "config"} <= content.keys():
        raise CheckpointError(f"{path}: no checkpoint of TabPFN: state_dict or config is missing")
    version = ModelVersion.V2 if name == "tabpfn_v2" else ModelVersion.V2_5
    limits = vars(InferenceConfig.get_default("multiclass", version))
    try:
        config, _ = ARCHITECTURES[name].parse_config(content["config"])
        if config.max_num_classes < 2:
            raise CheckpointError(f"{path}: of a regressor; a head needs a classifier")
        net = ARCHITECTURES[name].get_architecture(config)
        for given in ("inference_config", _LIMITS):
            limits |= content.get(given) or {}
        temperature = float(limits["SOFTMAX_TEMPERATURE"])
        most_rows = int(limits["MAX_NUMBER_OF_SAMPLES"])
        most_columns = int(limits["MAX_NUMBER_OF_FEATURES"])
    except (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: its settings make no {name}: {reason}") from error
    if not (0.0 < temperature < float("inf")):
        raise CheckpointError(f"{path}: a temperature of {temperature} is none")
    _load(path, net, name, content["state_dict"])
    return TabPFNFile(
        path=path,
        net=net.eval().requires_grad_(False),
        architecture=name,
        config=content["config"],
        # Weights that the architecture's makers did not train may name another.
        licence=str(content.get(_LICENCE) or LICENCES[name]),
        temperature=temperature,
        most_rows=most_rows,
        most_columns=most_columns,
    )


def _load(path: Path, net: nn.Module, name: str, weights: object) -> None:
    """Put weights into a network.

    Raises:
        CheckpointError: They are not those of such a network, or not all finite.
    """
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: state_dict holds a {type(weights).__name__}, not tensors")
    # Of a training there may be more than the network.
    own = {key: value for key, value in weights.items() if "criterion." not in str(key)}
    try:
        net.load_state_dict(own)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: the weights are not those of {name}: {reason}") from error
    for key, tensor in net.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {key} holds NaN or infinite values")


def save_tabpfn(path: Path, file: TabPFNFile, **further: Any) -> None:  # noqa: ANN401
    """Write a classifier as ``.safetensors``, for ``read_tabpfn`` and for the package ``tabpfn``.

    Args:
        path: Where to write; it ends in ``.safetensors``.
        file: The classifier.
        further: What else stands in the header, as JSON.
    """
    limits = {
        "SOFTMAX_TEMPERATURE": file.temperature,
        "MAX_NUMBER_OF_SAMPLES": file.most_rows,
        "MAX_NUMBER_OF_FEATURES": file.most_columns,
    }
    header = {
        "architecture_name": file.architecture,
        "config": dict(file.config),
        # Not as an inference_config: the package wants all of its many settings, or none.
        _LIMITS: limits,
        _LICENCE: file.licence,
        **further,
    }
    weights = {name: one.detach().cpu().contiguous() for name, one in file.net.state_dict().items()}
    described = {key: json.dumps(value, sort_keys=True) for key, value in header.items()}
    save_file(weights, path, metadata=described)


def load_pickled(path: Path) -> dict[str, Any]:
    """Read a file of ``torch.save``, refusing whatever is not plain data.

    Raises:
        CheckpointError: The file is missing or truncated, or would run code to be read.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            # Of a pickle that torch did not write; it is read or refused like any other.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: truncated, or it holds more than weights; such a file could run code, and "
            "is refused"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: truncated, or no file of torch ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def _content(path: Path) -> dict[str, Any]:
    if path.suffix != ".safetensors":
        return load_pickled(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: truncated, or no safetensors file ({error})") from error
    return {**header, "state_dict": tensors}
