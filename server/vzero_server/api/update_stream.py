"""One stream of ``UpdateContext``: chunks in, acknowledgements out."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from vzero.v1 import value_pb2
from vzero_server.api.errors import UnavailableError
from vzero_server.api.messages.outcomes import acknowledgement, outcomes_from
from vzero_server.storage.records import Appended, Outcome

# Chunks of one stream that are written at the same time, so that a commit can hold several.
_MAX_PENDING = 8

Append = Callable[[str, Sequence[Outcome]], Coroutine[Any, Any, Appended]]
"""Appends the outcomes of a policy and returns when they are durable."""

_PendingChunk = tuple[str, "asyncio.Task[Appended]"]


class UpdateStream:
    """Appends the chunks of a stream and acknowledges each once it is durable.

    However the stream ends (by its caller, an invalid chunk, or because the server drains),
    the chunks received before are appended and acknowledged first.
    """

    def __init__(self, append: Append, draining: asyncio.Event) -> None:
        """Set up the stream.

        Args:
            append: Appends the outcomes of a policy and returns when they are durable.
            draining: Ends the stream with ``UnavailableError`` when set.
        """
        self._append = append
        self._draining = draining
        self._pending: asyncio.Queue[_PendingChunk | Exception | None] = asyncio.Queue(_MAX_PENDING)

    async def acknowledge(
        self, requests: AsyncIterator[value_pb2.UpdateContextRequest]
    ) -> AsyncGenerator[value_pb2.UpdateContextResponse, None]:
        """Yield one acknowledgement per chunk, in order.

        Raises:
            InvalidRequestError: A chunk breaks a rule.
            UnavailableError: The server drains.
            StorageFullError: A chunk could not be stored.
        """
        reader = asyncio.create_task(self._read(requests))
        try:
            while (pending := await self._pending.get()) is not None:
                if isinstance(pending, Exception):
                    raise pending
                policy_id, appending = pending
                yield acknowledgement(policy_id, await appending)
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _read(self, requests: AsyncIterator[value_pb2.UpdateContextRequest]) -> None:
        """Start to append each chunk when it arrives, then pass on how the stream ended."""
        draining = asyncio.create_task(self._draining.wait())
        end: Exception | None = None
        try:
            while True:
                arriving = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait({arriving, draining}, return_when=asyncio.FIRST_COMPLETED)
                if not arriving.done():
                    arriving.cancel()
                    end = UnavailableError("the server is draining")
                    break
                chunk = arriving.result()
                if chunk is None:
                    break
                await self._pending.put((chunk.policy_id, self._start(chunk)))
        except Exception as error:
            end = error
        finally:
            draining.cancel()
        await self._pending.put(end)

    def _start(self, chunk: value_pb2.UpdateContextRequest) -> "asyncio.Task[Appended]":
        """Start to append a chunk."""
        outcomes = outcomes_from(chunk)
        appending = asyncio.create_task(self._append(chunk.policy_id, outcomes))
        # The caller may leave before the chunk is stored or fails, and nothing awaits it then.
        appending.add_done_callback(lambda task: task.cancelled() or task.exception())
        return appending
