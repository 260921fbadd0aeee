"""Budgets that decide which queued prompts make up the next batch of the backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vzero_server.engine.embedding.prompt_queue import QueuedPrompt

# Batches' worth of prompts among which prompts of similar length are searched. A larger number
# would delay some prompts for long.
_LOOK_AHEAD_BATCHES = 2


class BatchBudget(Protocol):
    """A limit on the tokens of a batch, and the choice of prompts that fit."""

    @property
    def look_ahead(self) -> int:
        """Tokens of queued prompts to offer to ``choose``."""

    def choose(self, entries: Sequence[QueuedPrompt]) -> Sequence[QueuedPrompt]:
        """Choose a batch that holds the first entry; entries are ordered by due time."""


@dataclass(frozen=True, slots=True)
class PackedBudget:
    """For an encoder without padding: prompts in due order, whatever their lengths.

    Attributes:
        max_tokens: Most tokens of a batch. A single prompt may exceed it.
    """

    max_tokens: int

    @property
    def look_ahead(self) -> int:
        """See ``BatchBudget``."""
        return self.max_tokens

    def choose(self, entries: Sequence[QueuedPrompt]) -> Sequence[QueuedPrompt]:
        """Choose as many entries as fit, in their order."""
        tokens = 0
        for count, entry in enumerate(entries):
            tokens += len(entry.tokens)
            if count and tokens > self.max_tokens:
                return entries[:count]
        return entries


@dataclass(frozen=True, slots=True)
class PaddedBudget:
    """For an encoder that pads: the first prompt and those nearest to it in length.

    Attributes:
        max_tokens: Most tokens of a batch, padding included. A single prompt may exceed it.
        max_padding: Most padding tokens of a batch; None for no limit. A prompt that would
            add more waits for another batch.
    """

    max_tokens: int
    max_padding: int | None = None

    @property
    def look_ahead(self) -> int:
        """See ``BatchBudget``."""
        return _LOOK_AHEAD_BATCHES * self.max_tokens

    def choose(self, entries: Sequence[QueuedPrompt]) -> Sequence[QueuedPrompt]:
        """Choose the first entry and its neighbours in length, nearest first, while they fit."""
        ordered = sorted(entries, key=lambda entry: len(entry.tokens))
        widths = [len(entry.tokens) for entry in ordered]
        low = high = ordered.index(entries[0])
        tokens = widths[low]
        while True:
            count = high - low + 2
            shorter = low > 0 and self._fits(count, widths[high], tokens + widths[low - 1])
            longer = high + 1 < len(widths) and self._fits(
                count, widths[high + 1], tokens + widths[high + 1]
            )
            if shorter and longer:
                # Extend towards the neighbour with the smaller difference in length.
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
        """Whether ``count`` prompts of at most ``width`` and together ``tokens`` tokens fit."""
        padding = count * width - tokens
        return count * width <= self.max_tokens and (
            self.max_padding is None or padding <= self.max_padding
        )
