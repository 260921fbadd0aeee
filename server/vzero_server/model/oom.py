"""Retries work on a device that is out of memory."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from vzero_server.errors import DeviceMemoryError

logger = logging.getLogger(__name__)

T = TypeVar("T")

# CUDA's libraries allocate for themselves, and torch reports their failures in other words.
_MESSAGES = ("CUDA out of memory", "CUDA error: out of memory", "ALLOC_FAILED")


class OomGuard:
    """Frees memory and retries when a device is out of memory.

    Cached contexts are most of what a large head holds on a device. They are dropped first; then
    the work is repeated in smaller pieces. Work that does not fit even then is refused.
    """

    def __init__(self, free: Callable[[], None]) -> None:
        """Set up the guard.

        Args:
            free: Drops cached contexts; called on the thread that works on the device.
        """
        self._free = free

    def run(self, work: Callable[[], T], in_pieces: Callable[[], T], what: str) -> T:
        """Return the result of some work on the device.

        Args:
            work: The work.
            in_pieces: The same work with less memory at a time.
            what: Named in the error: there is no room for it.

        Raises:
            DeviceMemoryError: There is no room even in pieces.
        """
        try:
            return work()
        except RuntimeError as error:
            reason = _out_of_memory(error)
        # Outside the handler: the error holds the memory of the failed pass.
        logger.warning("out of memory; dropping cached contexts and trying again: %s", reason)
        self._free()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            return in_pieces()
        except RuntimeError as error:
            _out_of_memory(error)
            raise DeviceMemoryError(f"no room for {what}") from error


def _out_of_memory(error: RuntimeError) -> str:
    """Return the first line of an out-of-memory error; raise any other error again."""
    first_line = str(error).partition("\n")[0]
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return first_line
    if any(message in first_line for message in _MESSAGES):
        return first_line
    raise error
