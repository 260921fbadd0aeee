"""The blocking client."""

from vzero._sync.client import Client

__all__ = ["Client"]
