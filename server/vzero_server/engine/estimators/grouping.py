"""Groups queries by context, and groups of similar size into batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vzero_server.engine.estimators.base import Query
from vzero_server.types import Features

# Entries of the largest kernel matrix of a batch of contexts, padding counted: more would
# only leave the processor's caches.
_BATCH_ENTRIES = 1 << 19


@dataclass(frozen=True, slots=True)
class QueryGroup:
    """A context, and all queries about it.

    Attributes:
        context: The fitted context.
        features: Feature vectors of the prompts of all its queries, ``[m, columns]``.
        positions: Positions of these queries in the call to ``predict``.
        lengths: Prompts of each query.
    """

    context: Any
    features: Features
    positions: Sequence[int]
    lengths: Sequence[int]

    def __len__(self) -> int:
        return len(self.features)


def grouped(queries: Sequence[Query]) -> list[QueryGroup]:
    """Group queries by context, so that its rows are read once for all of them."""
    positions_by_context: dict[int, list[int]] = {}
    for position, query in enumerate(queries):
        positions_by_context.setdefault(id(query.context), []).append(position)
    groups = []
    for positions in positions_by_context.values():
        parts = [queries[position].features for position in positions]
        features = parts[0] if len(parts) == 1 else np.concatenate(parts)
        context = queries[positions[0]].context
        groups.append(QueryGroup(context, features, positions, [len(part) for part in parts]))
    return groups


def batches(
    groups: Sequence[QueryGroup], size: Callable[[QueryGroup], tuple[int, int]]
) -> Iterator[list[QueryGroup]]:
    """Divide groups into batches of similar sizes, so that little is padding.

    Args:
        groups: The groups.
        size: Rows of a group's context, and its number of prompts.
    """
    batch: list[QueryGroup] = []
    most = 0
    for group in sorted(groups, key=size):
        rows, prompts = size(group)
        most = max(most, prompts)
        if batch and (len(batch) + 1) * max(rows, 1) * most > _BATCH_ENTRIES:
            yield batch
            batch, most = [], prompts
        batch.append(group)
    if batch:
        yield batch
