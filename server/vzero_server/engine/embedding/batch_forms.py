"""Which of the prompts that wait make the next batch of the backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vzero_server.engine.embedding.prompt_queue import Item

# Batches' worth of prompts among which those of like length are looked for: more would let
# some wait for long.
_LOOK_AHEAD = 2


class BatchForm(Protocol):
    """How batches are made up."""

    @property
    def look_ahead(self) -> int:
        """Tokens of prompts that are worth choosing from."""

    def choose(self, items: Sequence[Item]) -> Sequence[Item]:
        """A batch that holds the first of the items, which come in the order they are due."""


@dataclass(frozen=True, slots=True)
class Packed:
    """For an encoder that does without padding: whoever is due first, whatever the lengths.

    Attributes:
        max_tokens: Most tokens of a batch. A single prompt may exceed it.
    """

    max_tokens: int

    @property
    def look_ahead(self) -> int:
        """See ``BatchForm``."""
        return self.max_tokens

    def choose(self, items: Sequence[Item]) -> Sequence[Item]:
        """As many items as fit, in their order."""
        tokens = 0
        for count, item in enumerate(items):
            tokens += len(item.tokens)
            if count and tokens > self.max_tokens:
                return items[:count]
        return items


@dataclass(frozen=True, slots=True)
class Padded:
    """For an encoder that pads prompts to the longest: the first, and those nearest in length.

    Attributes:
        max_tokens: Most tokens of a batch, padding counted. A single prompt may exceed it.
        max_padding: Most of these that are padding; None for any number. Where a prompt would
            add more, it goes into a batch of its own kind.
    """

    max_tokens: int
    max_padding: int | None = None

    @property
    def look_ahead(self) -> int:
        """See ``BatchForm``."""
        return _LOOK_AHEAD * self.max_tokens

    def choose(self, items: Sequence[Item]) -> Sequence[Item]:
        """The first item and its neighbours in length, nearest first, until no more fit."""
        ordered = sorted(items, key=lambda item: len(item.tokens))
        widths = [len(item.tokens) for item in ordered]
        low = high = ordered.index(items[0])
        tokens = widths[low]
        while True:
            count = high - low + 2
            shorter = low > 0 and self._fits(count, widths[high], tokens + widths[low - 1])
            longer = high + 1 < len(widths) and self._fits(
                count, widths[high + 1], tokens + widths[high + 1]
            )
            if shorter and longer:
                # Whichever is nearer to the edge it is added to.
                longer = widths[high + 1] - widths[high] < widths[low] - widths[low - 1]
            if longer:
                high += 1
                tokens += widths[high]
            elif shorter:
                low -= 1
                tokens += widths[low]
            else:
                return ordered[low : high + 1]

    def _fits(self, count: int, width: int, tokens: int) -> bool:
        """Whether so many prompts, the longest so long, with so many tokens make a batch."""
        padding = count * width - tokens
        return count * width <= self.max_tokens and (
            self.max_padding is None or padding <= self.max_padding
        )
