"""The fixed first step of a head: principal components and scales of its features."""

from collections.abc import Sequence

import numpy as np
import torch

from vzero_server.model.head_config import Group
from vzero_server.model.in_context_head import InContextHead
from vzero_server.types import AnyFloatArray, FloatArray


def fit_projection(head: InContextHead, features: AnyFloatArray) -> None:
    """Set the head's mean and projections from features ``[prompts, columns]``.

    Groups that keep all columns are scaled to unit variance. Others keep their leading principal
    components, divided by one number, so that ratios of distances do not change.
    """
    groups = head.config.groups
    columns = features.astype(np.float64)
    mean = columns.mean(0)
    parts = np.split(columns - mean, np.cumsum([group.columns for group in groups])[:-1], axis=1)
    with torch.no_grad():
        head.mean.copy_(torch.from_numpy(mean))
        for index, (group, part) in enumerate(zip(groups, parts, strict=True)):
            matrix = torch.from_numpy(_projection(group, part))
            head.get_buffer(f"projection_{index}").copy_(matrix)


def _projection(group: Group, centred: FloatArray) -> FloatArray:
    if group.components == group.columns:
        return np.diag(1.0 / (centred.std(0) + 1e-6))
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    leading = np.argsort(values)[::-1][: group.components]
    scale = float(np.sqrt(values[leading].mean())) + 1e-6
    projection: FloatArray = vectors[:, leading] / scale
    return projection


def feature_groups(
    layers: Sequence[int], hidden: int, text: int, components: int
) -> tuple[Group, ...]:
    """Return the groups of the default features: one per layer mean, then the text columns."""
    kept = min(components, hidden)
    states = [Group(f"layer{layer}", hidden, kept) for layer in layers]
    return (*states, Group("text", text, text))
