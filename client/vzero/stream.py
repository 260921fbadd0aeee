"""The blocking stream."""

from vzero._sync.stream import Stream

__all__ = ["Stream"]
