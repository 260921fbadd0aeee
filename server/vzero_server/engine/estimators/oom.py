"""Models on a device whose memory may run out."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch

from vzero_server.engine.context.window import ContextWindow
from vzero_server.engine.embedding.batcher import Encoder
from vzero_server.engine.estimators.base import Estimator, Question
from vzero_server.errors import DeviceMemoryError
from vzero_server.types import Features
from vzero_server.values.values import Values

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Queries of one pass when memory was short.
_FEW = 16
_SIGNS = ("CUDA out of memory", "CUDA error: out of memory", "ALLOC_FAILED")


class DeviceMemory:
    """Makes room and tries once more when a device is out of memory.

    Kept contexts are most of what a large head holds on a device. They are dropped first; then
    the work is done again, in small pieces. What does not fit even then is refused, and the
    caller told to try again.
    """

    def __init__(self, make_room: Callable[[], None]) -> None:
        """Set up.

        Args:
            make_room: Drops kept contexts; called on the thread that works on the device.
        """
        self._make_room = make_room

    def within(self, work: Callable[[], T], smaller: Callable[[], T], what: str) -> T:
        """The result of some work.

        Args:
            work: On the device.
            smaller: The same with less at a time, for when memory is short.
            what: Its name in the error.

        Raises:
            DeviceMemoryError: There is no room for it.
        """
        try:
            return work()
        except RuntimeError as error:
            reason = _reason(error)
        # Not before: the error holds what the pass had in memory.
        logger.warning("out of memory; dropping kept contexts and trying again: %s", reason)
        self._make_room()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            return smaller()
        except RuntimeError as error:
            _reason(error)
            raise DeviceMemoryError(f"no room for {what}") from error


class EstimatorWithinMemory:
    """An estimator watched over by ``DeviceMemory``."""

    def __init__(self, estimator: Estimator, memory: DeviceMemory) -> None:
        self._estimator = estimator
        self._memory = memory

    @property
    def depth(self) -> int | None:
        """See ``Estimator``."""
        return self._estimator.depth

    def encode(self, window: ContextWindow) -> Any:  # noqa: ANN401
        """See ``Estimator``.

        Raises:
            DeviceMemoryError: There is no room for the context.
        """

        def encoded() -> Any:  # noqa: ANN401
            return self._estimator.encode(window)

        return self._memory.within(encoded, encoded, f"a context of {len(window)} rows")

    def predict(self, questions: Sequence[Question]) -> list[Values]:
        """See ``Estimator``.

        Raises:
            DeviceMemoryError: There is no room even for a few queries at a time.
        """
        return self._memory.within(
            lambda: self._estimator.predict(questions),
            lambda: [self._piecewise(question) for question in questions],
            f"{_FEW} queries on one context",
        )

    def quick(self, question: Question) -> bool:
        """See ``Estimator``; never, since making room waits for the event loop."""
        return False

    def _piecewise(self, question: Question) -> Values:
        pieces = [
            replace(question, queries=question.queries[start : start + _FEW])
            for start in range(0, len(question.queries), _FEW)
        ]
        return Values.joined([self._estimator.predict([piece])[0] for piece in pieces])


class EncoderWithinMemory:
    """An encoder watched over by ``DeviceMemory``."""

    def __init__(self, encoder: Encoder, memory: DeviceMemory) -> None:
        self._encoder = encoder
        self._memory = memory
        self.tokenize = encoder.tokenize

    def embed(self, prompts: Sequence[Any]) -> Features:
        """See ``Encoder``.

        Raises:
            DeviceMemoryError: There is no room even for one prompt at a time.
        """
        return self._memory.within(
            lambda: self._encoder.embed(prompts),
            lambda: np.concatenate([self._encoder.embed([prompt]) for prompt in prompts]),
            f"a prompt of up to {max(map(len, prompts))} tokens",
        )


def _reason(error: RuntimeError) -> str:
    """What an error of a device without memory says, in a line; any other is raised again."""
    text = str(error).partition("\n")[0]
    # CUDA's libraries allocate for themselves, and torch tells of that in its own way.
    if isinstance(error, torch.cuda.OutOfMemoryError) or any(sign in text for sign in _SIGNS):
        return text
    raise error
