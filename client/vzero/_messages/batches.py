"""Batches of prompts or outcomes that one request can carry."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from vzero.v1 import value_pb2

MAX_ITEMS = 4096
"""Prompts or outcomes that a request may carry."""

MAX_BYTES = 8 * 1024 * 1024
"""Bytes at which a batch ends, far below the limit of a message."""

Item = TypeVar("Item")


def split(
    items: Sequence[Item], sizes: Iterable[int], max_items: int | None = None
) -> Iterator[list[Item]]:
    """Split items into batches of at most ``max_items`` and about MAX_BYTES.

    Args:
        items: items to split, in order.
        sizes: bytes of each item. An item larger than MAX_BYTES makes a batch of its own.
        max_items: most items in a batch; None: MAX_ITEMS.
    """
    limit = max_items or MAX_ITEMS
    batch: list[Item] = []
    batch_bytes = 0
    for item, size in zip(items, sizes, strict=True):
        if batch and (len(batch) == limit or batch_bytes + size > MAX_BYTES):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(item)
        batch_bytes += size
    if batch:
        yield batch


def split_prompts(prompts: Sequence[str], max_items: int | None = None) -> Iterator[list[str]]:
    """Split prompts into batches; see `split`."""
    return split(prompts, (len(prompt.encode()) for prompt in prompts), max_items)


def update_requests(
    policy_id: str, outcomes: Sequence[value_pb2.Outcome]
) -> Iterator[value_pb2.UpdateContextRequest]:
    """Build the requests that carry outcomes of one policy, in order."""
    for batch in split(outcomes, (outcome.ByteSize() for outcome in outcomes)):
        yield value_pb2.UpdateContextRequest(policy_id=policy_id, outcomes=batch)
