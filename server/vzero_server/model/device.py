"""The torch device that runs the models."""

import torch


def resolve_device(device: str) -> str:
    """Return the torch device of a setting: for ``auto`` CUDA if there is a GPU, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"
