"""Trained adapters on disk: the file of the paper's authors, and our own.

Theirs is a pickle of training, ours safetensors with a JSON header that says the shape. Both
may hold the weights of the backbone beside those of the adapter.
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
# How distributed training calls what it wraps.
_WRAPPER = "module."


@dataclass(frozen=True)
class AdapterFile:
    """An adapter and what came with it.

    Attributes:
        adapter: In evaluation mode.
        backbone: Weights of the backbone by name; empty if the file has none.
        fingerprint: Hex digest of all weights, the adapter's in float32 as it computes; the
            same for either kind of file.
    """

    adapter: ResidualQueryAdapter
    backbone: Mapping[str, Tensor]
    fingerprint: str

    @classmethod
    def of(
        cls, adapter: ResidualQueryAdapter, backbone: Mapping[str, Tensor] | None = None
    ) -> Self:
        """An adapter, and what comes with it, to be written or served.

        Args:
            adapter: It is put into evaluation mode.
            backbone: Weights of the backbone by name, if they are not those of its folder.
        """
        backbone = backbone or {}
        fingerprint = _fingerprint(_named(adapter, backbone), adapter.config)
        return cls(adapter.eval(), backbone, fingerprint)

    def alone(self) -> Self:
        """The adapter without the weights of a backbone."""
        return self.of(self.adapter)


def read_adapter(path: Path) -> AdapterFile:
    """Read a file of either kind; ours ends in ``.safetensors``.

    Raises:
        CheckpointError: The file is missing, truncated, altered, would run code to be read, or
            holds no adapter.
    """
    if path.suffix == ".safetensors":
        tensors, config = _ours(path)
    else:
        tensors, config = _theirs(path)
    own = _below(_ADAPTER, tensors)
    adapter = ResidualQueryAdapter(config).eval().requires_grad_(False)
    try:
        adapter.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: the adapter has other tensors: {reason}") from error
    for name, tensor in adapter.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {_ADAPTER}{name} holds NaN or infinite values")
    return AdapterFile.of(adapter, _below(_BACKBONE, tensors))


def save_adapter(path: Path, file: AdapterFile) -> None:
    """Write an adapter, and the backbone that came with it, as safetensors."""
    tensors = _named(file.adapter, file.backbone)
    header = {
        "format": FORMAT,
        "architecture": {"name": ARCHITECTURE, **asdict(file.adapter.config)},
        "fingerprint": file.fingerprint,
    }
    # Copied: tensors that share memory would be refused.
    owned = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    save_file(owned, path, metadata={_KEY: json.dumps(header, sort_keys=True)})


def save_released(path: Path, file: AdapterFile) -> None:
    """Write an adapter as the authors' code reads it."""
    tensors = _named(file.adapter, file.backbone)
    config = file.adapter.config
    names = {"num_queries": config.queries, "embed_dim": config.width, "num_heads": config.heads}
    torch.save({"model_state_dict": tensors, "args": names}, path)


def _ours(path: Path) -> tuple[dict[str, Tensor], AdapterConfig]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = json.loads((file.metadata() or {})[_KEY])
        shape = dict(header["architecture"])
        if header["format"] != FORMAT or shape.pop("name") != ARCHITECTURE:
            raise CheckpointError(f"{path}: no adapter of kind {ARCHITECTURE}, format {FORMAT}")
        config, fingerprint = AdapterConfig(**shape), header["fingerprint"]
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated, or no safetensors file ({error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header is incomplete ({error!r})") from error
    if _fingerprint(tensors, config) != fingerprint:
        raise CheckpointError(f"{path}: the weights are not those its fingerprint was taken of")
    return tensors, config


def _theirs(path: Path) -> tuple[dict[str, Tensor], AdapterConfig]:
    content = load_pickled(path)
    given = content.get("model_state_dict", content)
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise CheckpointError(f"{path}: model_state_dict holds no tensors by name")
    tensors = {
        name.removeprefix(_WRAPPER): tensor
        for name, tensor in given.items()
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
            f"{path}: no adapter of the paper: {_ADAPTER}static_queries, proj_kv or generator is "
            f"missing or has another shape ({error})"
        ) from error
    # The one number that no tensor tells.
    named = content.get("args")
    heads = named.get("num_heads") if isinstance(named, dict) else None
    try:
        return tensors, AdapterConfig(hidden, queries, width, heads or RELEASED.heads, bottleneck)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: no adapter of the paper: {error}") from error


def _named(adapter: ResidualQueryAdapter, backbone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = {_ADAPTER + name: tensor for name, tensor in adapter.state_dict().items()}
    return tensors | {_BACKBONE + name: tensor for name, tensor in backbone.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
