"""An estimator on a device whose memory may run out."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from vzero_server.contexts.window import ContextWindow
from vzero_server.engine.errors import DeviceMemoryError
from vzero_server.engine.estimators.estimator import Estimator, Question
from vzero_server.engine.value import Values

log = logging.getLogger(__name__)

# Queries of one pass when memory was short.
_FEW = 16
_SIGNS = ("CUDA out of memory", "CUDA error: out of memory", "ALLOC_FAILED")


class WithinMemory:
    """Makes room and tries once more when the device is out of memory.

    Kept contexts are most of what a large head holds on a device. They are dropped first;
    then the questions are answered in small pieces. What does not fit even then is refused,
    and the caller told to try again.
    """

    def __init__(self, estimator: Estimator, make_room: Callable[[], None]) -> None:
        """Watch over an estimator.

        Args:
            estimator: May run out of memory.
            make_room: Drops kept contexts; called on the thread of the estimator.
        """
        self._estimator = estimator
        self._make_room = make_room

    @property
    def depth(self) -> int | None:
        """See ``Estimator``."""
        return self._estimator.depth

    def encode(self, window: ContextWindow) -> Any:  # noqa: ANN401
        """See ``Estimator``.

        Raises:
            DeviceMemoryError: There is no room for the context.
        """
        try:
            return self._estimator.encode(window)
        except RuntimeError as error:
            reason = _reason(error)
        # Not before: the error holds what the pass had in memory.
        self._relieve(reason)
        try:
            return self._estimator.encode(window)
        except RuntimeError as error:
            _reason(error)
            raise DeviceMemoryError(f"no room for a context of {len(window)} rows") from error

    def predict(self, questions: Sequence[Question]) -> list[Values]:
        """See ``Estimator``.

        Raises:
            DeviceMemoryError: There is no room even for a few queries at a time.
        """
        try:
            return self._estimator.predict(questions)
        except RuntimeError as error:
            reason = _reason(error)
        # Not before: the error holds what the pass had in memory.
        self._relieve(reason)
        try:
            return [self._piecewise(question) for question in questions]
        except RuntimeError as error:
            _reason(error)
            raise DeviceMemoryError(f"no room for {_FEW} queries on one context") from error

    def quick(self, question: Question) -> bool:
        """See ``Estimator``; never, since making room waits for the event loop."""
        return False

    def _piecewise(self, question: Question) -> Values:
        pieces = [
            replace(question, queries=question.queries[start : start + _FEW])
            for start in range(0, len(question.queries), _FEW)
        ]
        return Values.joined([self._estimator.predict([piece])[0] for piece in pieces])

    def _relieve(self, reason: str) -> None:
        log.warning("out of memory; dropping kept contexts and trying again: %s", reason)
        self._make_room()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _reason(error: RuntimeError) -> str:
    """What an error of a device without memory says, in a line; any other is raised again."""
    text = str(error).partition("\n")[0]
    # CUDA's libraries allocate for themselves, and torch tells of that in its own way.
    if isinstance(error, torch.cuda.OutOfMemoryError) or any(sign in text for sign in _SIGNS):
        return text
    raise error
