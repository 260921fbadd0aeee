"""Checkpoints of the in-context head: safetensors with a JSON header.

The header says what the weights are for: the head's shape, the backbone whose features they
read, what they were trained on, the figures they reached, and a fingerprint of it all. A file
that does not fit is refused with a sentence, not a stack of tensor sizes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vzero_server.model.head_config import Group, HeadConfig
from vzero_server.model.in_context_head import InContextHead

SHIPPED = Path(__file__).parent / "weights" / "icl-minilm.safetensors"
"""The weights that come with the package, for all-MiniLM-L6-v2."""

ARCHITECTURE = "icl"
FORMAT = 1
_KEY = "vzero"


class CheckpointError(Exception):
    """A checkpoint cannot be used."""


@dataclass(frozen=True)
class BackboneSpec:
    """The text encoder a head was trained on.

    Attributes:
        name: Its name, for people.
        sha256: Hex digest of its weight file.
        layers: Hidden states that are averaged over tokens, in the order of the head's
            groups; 0 is the embedding layer. The text columns follow them.
    """

    name: str
    sha256: str
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A head and what its file says of it.

    Attributes:
        head: The head, in evaluation mode.
        backbone: The encoder whose features it reads.
        training: Data, recipe and date of training.
        metrics: Figures measured before it was shipped.
        fingerprint: Hex digest of shape, backbone and weights.
    """

    head: InContextHead
    backbone: BackboneSpec
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    fingerprint: str


def save_checkpoint(
    path: Path,
    head: InContextHead,
    *,
    backbone: BackboneSpec,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> str:
    """Write a checkpoint and return its fingerprint."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in head.state_dict().items()}
    described = {"architecture": _describe(head.config), "backbone": asdict(backbone)}
    fingerprint = _fingerprint(described, tensors)
    header = {
        "format": FORMAT,
        **described,
        "training": dict(training),
        "metrics": dict(metrics),
        "fingerprint": fingerprint,
    }
    path.write_bytes(save(tensors, metadata={_KEY: json.dumps(header, sort_keys=True)}))
    return fingerprint


def load_checkpoint(path: Path = SHIPPED, *, backbone_sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: The file.
        backbone_sha256: Digest of the weight file of the backbone in use; None skips the check.

    Raises:
        CheckpointError: The file is missing, truncated, altered, no checkpoint of this head,
            of another shape than its header says, or made for another backbone.
    """
    header, tensors = _read(path)
    try:
        if header["format"] != FORMAT or header["architecture"]["name"] != ARCHITECTURE:
            raise CheckpointError(
                f"{path}: no checkpoint of an {ARCHITECTURE} head, format {FORMAT}"
            )
        config = _config(header["architecture"])
        backbone = BackboneSpec(
            name=str(header["backbone"]["name"]),
            sha256=str(header["backbone"]["sha256"]),
            layers=tuple(int(layer) for layer in header["backbone"]["layers"]),
        )
        fingerprint = str(header["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its header is incomplete ({error!r})") from error
    if backbone_sha256 is not None and backbone_sha256 != backbone.sha256:
        raise CheckpointError(
            f"{path}: made for backbone {backbone.name} ({backbone.sha256[:12]}), "
            f"not for the one in use ({backbone_sha256[:12]})"
        )
    head = InContextHead(config)
    _check_shapes(path, head, tensors)
    described = {"architecture": header["architecture"], "backbone": header["backbone"]}
    if _fingerprint(described, tensors) != fingerprint:
        raise CheckpointError(f"{path}: the weights are not those its fingerprint was taken of")
    head.load_state_dict(tensors)
    return Checkpoint(
        head=head.eval(),
        backbone=backbone,
        training=header.get("training", {}),
        metrics=header.get("metrics", {}),
        fingerprint=fingerprint,
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated, or no safetensors file ({error})") from error
    if _KEY not in metadata:
        raise CheckpointError(f"{path}: safetensors without a vzero header")
    try:
        header: dict[str, Any] = json.loads(metadata[_KEY])
    except ValueError as error:
        raise CheckpointError(f"{path}: its header is not JSON ({error})") from error
    return header, tensors


def _describe(config: HeadConfig) -> dict[str, Any]:
    return {"name": ARCHITECTURE, **asdict(config)}


def _config(described: Mapping[str, Any]) -> HeadConfig:
    fields = {key: value for key, value in described.items() if key != "name"}
    fields["groups"] = tuple(Group(**group) for group in fields["groups"])
    return HeadConfig(**fields)


def _check_shapes(path: Path, head: InContextHead, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = {name: list(tensor.shape) for name, tensor in head.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(f"{path}: tensor {name} is missing")
        if name not in expected:
            raise CheckpointError(f"{path}: tensor {name} is unknown to this head")
        if found[name] != expected[name]:
            raise CheckpointError(
                f"{path}: tensor {name} has shape {found[name]}, the header says {expected[name]}"
            )


def _fingerprint(described: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    digest = sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
