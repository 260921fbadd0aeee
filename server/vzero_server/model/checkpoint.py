"""Checkpoints of the in-context head: safetensors with a JSON header.

The header describes the weights: shape of the head, backbone whose features it reads, training
data, metrics, and a fingerprint of shape, backbone and weights. A file that does not match is
rejected with an error that names the problem.
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
"""Weights installed with the package, for all-MiniLM-L6-v2."""

ARCHITECTURE = "icl"
FORMAT = 1
_KEY = "vzero"


class CheckpointError(Exception):
    """A checkpoint cannot be used."""


@dataclass(frozen=True)
class BackboneSpec:
    """The text encoder a head was trained on.

    Attributes:
        name: Display name.
        sha256: SHA-256 of its weight file, in hex.
        layers: Hidden states that are averaged over tokens, in the order of the head's
            groups; 0 is the embedding layer. The text columns follow.
    """

    name: str
    sha256: str
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A head with the description from its file.

    Attributes:
        head: The head, in evaluation mode.
        backbone: Encoder whose features it reads.
        training: Data, recipe and date of training.
        metrics: Metrics measured after training.
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
    """Write a checkpoint and return its fingerprint.

    Args:
        path: File to write.
        head: The head.
        backbone: Encoder whose features it reads.
        training: Data, recipe and date of training; JSON values.
        metrics: Metrics measured after training; JSON values.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in head.state_dict().items()}
    description = {
        "architecture": {"name": ARCHITECTURE, **asdict(head.config)},
        "backbone": asdict(backbone),
    }
    fingerprint = _fingerprint(description, tensors)
    header = {
        "format": FORMAT,
        **description,
        "training": dict(training),
        "metrics": dict(metrics),
        "fingerprint": fingerprint,
    }
    path.write_bytes(save(tensors, metadata={_KEY: json.dumps(header, sort_keys=True)}))
    return fingerprint


def load_checkpoint(path: Path = SHIPPED, *, backbone_sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: File to read.
        backbone_sha256: SHA-256 of the weight file of the backbone in use; None skips the check.

    Raises:
        CheckpointError: The file is missing, truncated or altered, is not a checkpoint of this
            head, does not match its header, or was made for another backbone.
    """
    header, tensors = _read(path)
    try:
        if header["format"] != FORMAT or header["architecture"]["name"] != ARCHITECTURE:
            raise CheckpointError(
                f"{path}: not a checkpoint of an {ARCHITECTURE} head, format {FORMAT}"
            )
        config = _config(header["architecture"])
        backbone = BackboneSpec(
            name=str(header["backbone"]["name"]),
            sha256=str(header["backbone"]["sha256"]),
            layers=tuple(int(layer) for layer in header["backbone"]["layers"]),
        )
        fingerprint = str(header["fingerprint"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the header is incomplete ({error!r})") from error
    if backbone_sha256 is not None and backbone_sha256 != backbone.sha256:
        raise CheckpointError(
            f"{path}: made for backbone {backbone.name} ({backbone.sha256[:12]}), "
            f"not for the one in use ({backbone_sha256[:12]})"
        )
    head = InContextHead(config)
    _check_shapes(path, head, tensors)
    description = {"architecture": header["architecture"], "backbone": header["backbone"]}
    if _fingerprint(description, tensors) != fingerprint:
        raise CheckpointError(f"{path}: altered: the weights do not match the fingerprint")
    head.load_state_dict(tensors)
    return Checkpoint(
        head=head.eval(),
        backbone=backbone,
        training=header.get("training", {}),
        metrics=header.get("metrics", {}),
        fingerprint=fingerprint,
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Header and tensors of a file."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated or not a safetensors file ({error})") from error
    if _KEY not in metadata:
        raise CheckpointError(f"{path}: a safetensors file without a vzero header")
    try:
        header: dict[str, Any] = json.loads(metadata[_KEY])
    except ValueError as error:
        raise CheckpointError(f"{path}: the header is not JSON ({error})") from error
    return header, tensors


def _config(architecture: Mapping[str, Any]) -> HeadConfig:
    fields = {key: value for key, value in architecture.items() if key != "name"}
    fields["groups"] = tuple(Group(**group) for group in fields["groups"])
    return HeadConfig(**fields)


def _check_shapes(path: Path, head: InContextHead, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = {name: list(tensor.shape) for name, tensor in head.state_dict().items()}
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if name not in shapes:
            raise CheckpointError(f"{path}: tensor {name} is missing")
        if name not in expected:
            raise CheckpointError(f"{path}: tensor {name} is not part of this head")
        if shapes[name] != expected[name]:
            raise CheckpointError(
                f"{path}: tensor {name} has shape {shapes[name]}, the header says {expected[name]}"
            )


def _fingerprint(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    digest = sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
