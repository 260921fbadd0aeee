"""Contexts cached by TabPFN, and their concatenation to batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class TabPFNContext:
    """A context that TabPFN has read, once for each member of the ensemble.

    Only contexts of equal ``shape`` can share a batch, because TabPFN has no mask for rows.

    Attributes:
        cache: Cache of the network; its batch dimension are the ``E`` members.
        successes: 0 or 1 per row, ``[N, E]``.
        columns: Feature columns of each member, ``[E, C]``: those that vary over the context, in
            the member's order.
    """

    cache: Any
    successes: Tensor
    columns: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.successes.shape[0]), int(self.columns.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return sum(
            tensor.nbytes for tensor in (self.successes, self.columns, *_tensors(self.cache))
        )


def convert_cache(cache: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """A copy of a cache with keys and values, most of its memory, in another number format."""
    converted = {
        layer: replace(entry, key=entry.key.to(dtype), value=entry.value.to(dtype))
        for layer, entry in cache.kv.items()
    }
    return replace(cache, kv=converted)


def concatenate(caches: Sequence[Any], *, copy: bool = False) -> Any:  # noqa: ANN401
    """Concatenate caches along the batch dimension; the arguments are not changed.

    If the package does not implement this, keys and values are concatenated layer by layer when a
    pass reads them, so that only one layer is in memory twice.

    Args:
        caches: Caches of equal shape.
        copy: Whether to concatenate all layers at once instead.
    """
    if len(caches) == 1:
        return caches[0]
    try:
        # The package empties its arguments.
        return type(caches[0]).concatenate([replace(c, kv=dict(c.kv)) for c in caches])
    except NotImplementedError:
        layers = _Layers([cache.kv for cache in caches])
    rest = {
        field.name: _concatenate_entries([getattr(cache, field.name) for cache in caches])
        for field in fields(caches[0])
        if field.name not in {"kv", "train_shape"}
    }
    batch = sum(cache.train_shape[0] for cache in caches)
    shape = (batch, caches[0].train_shape[1])
    kv = dict(layers.items()) if copy else layers
    return replace(caches[0], kv=kv, train_shape=shape, **rest)


class _Layers(Mapping[int, Any]):
    """Keys and values of several caches by layer, concatenated on access."""

    def __init__(self, parts: Sequence[Mapping[int, Any]]) -> None:
        self._parts = parts

    def __getitem__(self, layer: int) -> Any:  # noqa: ANN401
        entries = [part[layer] for part in self._parts]
        key = torch.cat([entry.key for entry in entries])
        return replace(entries[0], key=key, value=torch.cat([entry.value for entry in entries]))

    def __iter__(self) -> Iterator[int]:
        return iter(self._parts[0])

    def __len__(self) -> int:
        return len(self._parts[0])


def _concatenate_entries(parts: list[Any]) -> Any:  # noqa: ANN401
    """Concatenate entries along the first dimension, also those within dicts and lists."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, dict):
        return {key: _concatenate_entries([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(
            _concatenate_entries(list(entries)) for entries in zip(*parts, strict=True)
        )
    return first


def _tensors(entry: Any) -> Iterator[Tensor]:  # noqa: ANN401
    if isinstance(entry, Tensor):
        yield entry
    elif isinstance(entry, Mapping):
        for value in entry.values():
            yield from _tensors(value)
    elif isinstance(entry, list | tuple):
        for value in entry:
            yield from _tensors(value)
    elif hasattr(entry, "__dataclass_fields__"):
        for field in fields(entry):
            yield from _tensors(getattr(entry, field.name))
