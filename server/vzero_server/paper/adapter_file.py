"""Files of trained adapters: the format of the paper's authors, and safetensors.

The authors' file is a pickle from training. The other format is safetensors with a JSON header
that describes the shape. Both may contain weights of the backbone beside those of the adapter.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vzero_server.model.checkpoint import CheckpointError
from vzero_server.paper.adapter import RELEASED, AdapterConfig, ResidualQueryAdapter
from vzero_server.paper.tabpfn_file import load_pickled

ARCHITECTURE = "residual-dynamic-query"
FORMAT = 1
_KEY = "vzero"
_ADAPTER, _BACKBONE = "adapter_layer.", "backbone."
# Prefix of names that distributed training adds.
_WRAPPER = "module."


@dataclass(frozen=True)
class AdapterFile:
    """An adapter, and the weights of a backbone from the same file.

    Attributes:
        adapter: The adapter, in evaluation mode.
        backbone: Weights of the backbone by name; empty if the file has none.
        fingerprint: Hex digest of all weights, those of the adapter in float32; the same for
            both formats.
    """

    adapter: ResidualQueryAdapter
    backbone: Mapping[str, Tensor]
    fingerprint: str

    @classmethod
    def of(
        cls, adapter: ResidualQueryAdapter, backbone: Mapping[str, Tensor] | None = None
    ) -> Self:
        """Create the content of a file.

        Args:
            adapter: The adapter; it is put into evaluation mode.
            backbone: Weights of the backbone by name, if they differ from those of its folder.
        """
        backbone = backbone or {}
        fingerprint = _fingerprint(_named_tensors(adapter, backbone), adapter.config)
        return cls(adapter.eval(), backbone, fingerprint)

    def alone(self) -> Self:
        """The adapter without the weights of a backbone."""
        return self.of(self.adapter)


def read_adapter(path: Path) -> AdapterFile:
    """Read a file of either format, by its suffix.

    Raises:
        CheckpointError: The file is missing, truncated or altered, is not an adapter, or would
            run code when read.
    """
    if path.suffix == ".safetensors":
        tensors, config = _read_safetensors(path)
    else:
        tensors, config = _read_pickle(path)
    adapter = ResidualQueryAdapter(config).eval().requires_grad_(False)
    try:
        adapter.load_state_dict(_without_prefix(_ADAPTER, tensors))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: the adapter has other tensors: {reason}") from error
    for name, tensor in adapter.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {_ADAPTER}{name} contains NaN or infinite values")
    return AdapterFile.of(adapter, _without_prefix(_BACKBONE, tensors))


def save_adapter(path: Path, file: AdapterFile) -> None:
    """Write an adapter, and the weights of its backbone, as safetensors."""
    tensors = _named_tensors(file.adapter, file.backbone)
    header = {
        "format": FORMAT,
        "architecture": {"name": ARCHITECTURE, **asdict(file.adapter.config)},
        "fingerprint": file.fingerprint,
    }
    # Copies: safetensors rejects tensors that share memory.
    copies = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, path, metadata={_KEY: json.dumps(header, sort_keys=True)})


def save_released(path: Path, file: AdapterFile) -> None:
    """Write an adapter in the format of the authors' code."""
    tensors = _named_tensors(file.adapter, file.backbone)
    config = file.adapter.config
    names = {"num_queries": config.queries, "embed_dim": config.width, "num_heads": config.heads}
    torch.save({"model_state_dict": tensors, "args": names}, path)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], AdapterConfig]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads((file.metadata() or {})[_KEY])
        shape = dict(header["architecture"])
        if header["format"] != FORMAT or shape.pop("name") != ARCHITECTURE:
            raise CheckpointError(f"{path}: not an adapter of kind {ARCHITECTURE}, format {FORMAT}")
        config, fingerprint = AdapterConfig(**shape), header["fingerprint"]
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated or not a safetensors file ({error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the header is incomplete ({error!r})") from error
    if _fingerprint(tensors, config) != fingerprint:
        raise CheckpointError(f"{path}: altered: the weights do not match the fingerprint")
    return tensors, config


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], AdapterConfig]:
    content = load_pickled(path)
    weights = content.get("model_state_dict", content)
    if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights):
        raise CheckpointError(f"{path}: model_state_dict does not contain tensors by name")
    tensors = {
        name.removeprefix(_WRAPPER): tensor
        for name, tensor in weights.items()
        if isinstance(tensor, Tensor)
    }
    tensors = {
        name: tensor for name, tensor in tensors.items() if name.startswith((_ADAPTER, _BACKBONE))
    }
    try:
        _, queries, width = tensors[_ADAPTER + "static_queries"].shape
        hidden = tensors[_ADAPTER + "proj_kv.weight"].shape[1]
        bottleneck = tensors[_ADAPTER + "generator.0.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path}: not an adapter of the paper: {_ADAPTER}static_queries, proj_kv or generator "
            f"is missing or has another shape ({error})"
        ) from error
    # No tensor shape determines the number of heads.
    arguments = content.get("args")
    heads = arguments.get("num_heads") if isinstance(arguments, dict) else None
    try:
        return tensors, AdapterConfig(hidden, queries, width, heads or RELEASED.heads, bottleneck)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not an adapter of the paper: {error}") from error


def _named_tensors(
    adapter: ResidualQueryAdapter, backbone: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    tensors = {_ADAPTER + name: tensor for name, tensor in adapter.state_dict().items()}
    return tensors | {_BACKBONE + name: tensor for name, tensor in backbone.items()}


def _without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _fingerprint(tensors: Mapping[str, Tensor], config: AdapterConfig) -> str:
    digest = sha256(json.dumps(asdict(config), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
