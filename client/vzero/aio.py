"""The asyncio client and its stream."""

from vzero._async.client import AsyncClient
from vzero._async.stream import AsyncStream

__all__ = ["AsyncClient", "AsyncStream"]
