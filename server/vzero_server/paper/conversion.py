"""Conversion of adapters between the authors' file format and safetensors."""

from pathlib import Path

from vzero_server.paper.adapter_file import AdapterFile, read_adapter, save_adapter, save_released


def convert_adapter(source: Path, target: Path, *, without_backbone: bool = False) -> AdapterFile:
    """Write an adapter in the format that the suffix of the target names.

    Args:
        source: A file of either format.
        target: File to write, ``.safetensors`` or ``.pt``; replaced at once if it exists.
        without_backbone: Omit the weights of the backbone.

    Returns:
        What was written.

    Raises:
        CheckpointError: The source is missing or not a readable adapter.
    """
    file = read_adapter(source)
    if without_backbone:
        file = file.alone()
    partial = target.with_name(target.name + ".partial")
    save = save_adapter if target.suffix == ".safetensors" else save_released
    save(partial, file)
    partial.replace(target)
    return file
