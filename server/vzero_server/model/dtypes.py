"""Number formats of models, by the names that settings use."""

import torch

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "int8": torch.int8,
}
AUTO = "auto"
"""The fastest number format of the device. Embeddings in float32 and bfloat16 differ too little
to change a value, so a data folder may move between machines."""


def resolve_dtype(name: str, device: str) -> str:
    """The number format to use on a device: ``name`` itself, or the fastest for ``auto``.

    Args:
        name: A key of ``DTYPES``, or ``auto``.
        device: Torch device.

    Returns:
        A key of ``DTYPES``; for ``auto``, ``bfloat16`` or ``float32``.
    """
    if name != AUTO:
        return name
    if device.startswith("cuda"):
        fast = torch.cuda.is_bf16_supported()
    else:
        # Without AMX tiles, bfloat16 costs a processor more time than it saves.
        fast = device == "cpu" and torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"
