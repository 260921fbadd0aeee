"""Checkpoints of TabPFN, with their limits and licence; reading them never runs code."""

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
"""Licence of the weights of each architecture, in the order of release."""
# Header keys that only save_tabpfn writes.
_LICENCE, _LIMITS = "licence", "limits"


@dataclass(frozen=True)
class TabPFNFile:
    """A checkpoint of a TabPFN classifier.

    Attributes:
        path: File it was read from.
        net: The network, in evaluation mode, with frozen parameters.
        architecture: Name of the architecture, a key of ``LICENCES``.
        config: Configuration of the network, in the format of the package ``tabpfn``.
        licence: Licence of the weights, for display.
        temperature: Divisor of the logits before the softmax.
        most_rows: Maximum rows of a context that it was trained for.
        most_columns: Maximum feature columns that it was trained for.
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
        """Whether the licence allows commercial use."""
        return self.licence != _NON_COMMERCIAL


def read_tabpfn(path: Path) -> TabPFNFile:
    """Read a checkpoint in either of TabPFN's formats, ``.ckpt`` or ``.safetensors``.

    Raises:
        CheckpointError: The package ``tabpfn`` is not installed; or the file is missing or
            truncated, contains more than weights, has an unknown architecture, is not a
            classifier, or has invalid settings or weights.
    """
    try:
        # Imported here: the import takes seconds, and the package is optional.
        from tabpfn.architectures import ARCHITECTURES
        from tabpfn.constants import ModelVersion
        from tabpfn.inference_config import InferenceConfig
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{path}: a TabPFN head needs the package tabpfn: pip install 'vzero[tabpfn]'"
        ) from error
    content = _content(path)
    # The first release has no name, the second that of its implementation.
    name = str(content.get("architecture_name", "tabpfn_v2"))
    name = "tabpfn_v2_5" if name == "base" else name
    if name not in LICENCES:
        known = ", ".join(LICENCES)
        raise CheckpointError(f"{path}: architecture {name!r} is unknown; known are {known}")
    if not {"state_dict", "config"} <= content.keys():
        raise CheckpointError(
            f"{path}: not a checkpoint of TabPFN: state_dict or config is missing"
        )
    version = ModelVersion.V2 if name == "tabpfn_v2" else ModelVersion.V2_5
    limits = vars(InferenceConfig.get_default("multiclass", version))
    try:
        config, _ = ARCHITECTURES[name].parse_config(content["config"])
        if config.max_num_classes < 2:
            raise CheckpointError(f"{path}: a regressor, but a head needs a classifier")
        net = ARCHITECTURES[name].get_architecture(config)
        for key in ("inference_config", _LIMITS):
            limits |= content.get(key) or {}
        temperature = float(limits["SOFTMAX_TEMPERATURE"])
        most_rows = int(limits["MAX_NUMBER_OF_SAMPLES"])
        most_columns = int(limits["MAX_NUMBER_OF_FEATURES"])
    except (TypeError, ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: the settings are not those of {name}: {reason}") from error
    if not (0.0 < temperature < float("inf")):
        raise CheckpointError(f"{path}: the temperature is {temperature}, not positive and finite")
    _load(path, net, name, content["state_dict"])
    return TabPFNFile(
        path=path,
        net=net.eval().requires_grad_(False),
        architecture=name,
        config=content["config"],
        # Weights from another source may have another licence.
        licence=str(content.get(_LICENCE) or LICENCES[name]),
        temperature=temperature,
        most_rows=most_rows,
        most_columns=most_columns,
    )


def _load(path: Path, net: nn.Module, name: str, weights: object) -> None:
    """Load weights into a network.

    Raises:
        CheckpointError: The weights do not match the network, or are not all finite.
    """
    if not isinstance(weights, dict):
        raise CheckpointError(
            f"{path}: state_dict contains a {type(weights).__name__}, not tensors"
        )
    # Checkpoints of a training run may also contain the loss.
    network_weights = {key: value for key, value in weights.items() if "criterion." not in str(key)}
    try:
        net.load_state_dict(network_weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: the weights are not those of {name}: {reason}") from error
    for key, tensor in net.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {key} contains NaN or infinite values")


def save_tabpfn(path: Path, file: TabPFNFile, **metadata: Any) -> None:  # noqa: ANN401
    """Write a classifier as ``.safetensors``, for ``read_tabpfn`` and for the package ``tabpfn``.

    Args:
        path: File to write; its name ends in ``.safetensors``.
        file: The classifier.
        metadata: Further entries of the header, as JSON values.
    """
    limits = {
        "SOFTMAX_TEMPERATURE": file.temperature,
        "MAX_NUMBER_OF_SAMPLES": file.most_rows,
        "MAX_NUMBER_OF_FEATURES": file.most_columns,
    }
    header = {
        "architecture_name": file.architecture,
        "config": dict(file.config),
        # Not as an inference_config, of which the package requires all settings or none.
        _LIMITS: limits,
        _LICENCE: file.licence,
        **metadata,
    }
    weights = {
        name: tensor.detach().cpu().contiguous() for name, tensor in file.net.state_dict().items()
    }
    encoded = {key: json.dumps(value, sort_keys=True) for key, value in header.items()}
    save_file(weights, path, metadata=encoded)


def load_pickled(path: Path) -> dict[str, Any]:
    """Read a file of ``torch.save`` that contains only tensors and plain data.

    Raises:
        CheckpointError: The file is missing or truncated, or would run code when read.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            # Torch warns about pickles that it did not write.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: truncated, or contains more than weights; such a file could run code and "
            "is refused"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: truncated or not a torch file ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: contains a {type(content).__name__}, not a checkpoint")
    return content


def _content(path: Path) -> dict[str, Any]:
    """Header and weights of a file of either format."""
    if path.suffix != ".safetensors":
        return load_pickled(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: truncated or not a safetensors file ({error})") from error
    return {**header, "state_dict": tensors}
