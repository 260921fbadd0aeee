"""What TabPFN keeps of a context, and how several are answered from in one pass."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class TabPFNContext:
    """A context that TabPFN has read, once for each member of the ensemble.

    Contexts of equal ``shape`` can be answered from together; TabPFN has no mask for rows,
    so that others cannot.

    Attributes:
        cache: The network's own cache, whose batch are the ``E`` members.
        labels: Labels of the rows, ``[N, E]``.
        columns: Which feature column each member reads where, ``[E, C]``: the columns that
            vary over the context, in the member's order.
    """

    cache: Any
    labels: Tensor
    columns: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.labels.shape[0]), int(self.columns.shape[1])

    @property
    def nbytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return sum(tensor.nbytes for tensor in (self.labels, self.columns, *_tensors(self.cache)))


def stored_as(cache: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """A cache whose keys and values, nearly all of it, are kept in another number format."""
    kept = {
        layer: replace(entry, key=entry.key.to(dtype), value=entry.value.to(dtype))
        for layer, entry in cache.kv.items()
    }
    return replace(cache, kv=kept)


def stacked(caches: Sequence[Any], *, keep: bool = False) -> Any:  # noqa: ANN401
    """One cache whose batch is that of all caches, one after the other.

    The caches stay as they are. Where the package does not know how, keys and values are put
    together layer by layer when a pass comes to the layer, so that they never all stand in
    memory twice.

    Args:
        caches: Of one shape.
        keep: Put them together for good.
    """
    if len(caches) == 1:
        return caches[0]
    try:
        # The package empties what it is given.
        return type(caches[0]).concatenate([replace(c, kv=dict(c.kv)) for c in caches])
    except NotImplementedError:
        layers = _Layers([cache.kv for cache in caches])
    rest = {
        field.name: _joined([getattr(cache, field.name) for cache in caches])
        for field in fields(caches[0])
        if field.name not in {"kv", "train_shape"}
    }
    batch = sum(cache.train_shape[0] for cache in caches)
    shape = (batch, caches[0].train_shape[1])
    kv = dict(layers.items()) if keep else layers
    return replace(caches[0], kv=kv, train_shape=shape, **rest)


class _Layers(Mapping[int, Any]):
    """Keys and values of several caches by layer; joined when asked for."""

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


def _joined(parts: list[Any]) -> Any:  # noqa: ANN401
    """Join what caches keep beside keys and values: batch first, in dicts and lists as well."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        return type(first)(_joined(list(one)) for one in zip(*parts, strict=True))
    return first


def _tensors(kept: Any) -> Iterator[Tensor]:  # noqa: ANN401
    if isinstance(kept, Tensor):
        yield kept
    elif isinstance(kept, Mapping):
        for value in kept.values():
            yield from _tensors(value)
    elif isinstance(kept, list | tuple):
        for value in kept:
            yield from _tensors(value)
    elif hasattr(kept, "__dataclass_fields__"):
        for field in fields(kept):
            yield from _tensors(getattr(kept, field.name))
