"""Outcomes sent in the background over one long call."""

import logging
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self, SupportsFloat

import grpc

from vzero._concurrency import AsyncCancelled, AsyncCondition, AsyncWorker, async_run_blocking
from vzero._messages.outcomes import Moment, build_outcome
from vzero._stream.core import StreamCore
from vzero._stream.progress import StreamProgress
from vzero._transport.deadline import Deadline
from vzero._transport.services import ASYNC_CLOSED_CHANNEL_ERRORS
from vzero._transport.status import from_rpc_error
from vzero.errors import DeadlineExceeded, VzeroError
from vzero.v1 import value_pb2

logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0


class AsyncUpdateCall(Protocol):
    """A running UpdateContext call."""

    def __aiter__(self) -> AsyncIterator[value_pb2.UpdateContextResponse]:
        """Iterate over the acknowledgements."""
        ...

    def cancel(self) -> bool:
        """End the call."""
        ...


OpenCall = Callable[[AsyncIterator[value_pb2.UpdateContextRequest]], AsyncUpdateCall]


class AsyncStream(StreamProgress):
    """Sends outcomes in the background. `AsyncClient.stream` makes it for an ``async with`` block.

    Chunks of outcomes are sent until the server has stored them. Each outcome has an id, so none
    is stored twice. While the server is unreachable, chunks wait in this process or in the spool
    folder. It belongs to one event loop.
    """

    def __init__(self, core: StreamCore, open_call: OpenCall, timeout: float) -> None:
        """Prepare the stream. It connects when there is something to send.

        Args:
            core: state of the stream.
            open_call: starts an UpdateContext call with the requests that it is given.
            timeout: longest wait of a method, and for an acknowledgement, seconds.
        """
        self._core = core
        self._open_call = open_call
        self._timeout = timeout
        # Guards the core and all that follows.
        self._changed = AsyncCondition()
        self._call_number = 0
        self._call_ended = False
        self._call_error: VzeroError | None = None
        self._last_progress = 0.0
        self._closing = False
        self._stop = False
        self._done = False
        self._worker = AsyncWorker(self._run, "vzero-stream")
        self._worker.start_if_possible()

    async def add(
        self,
        prompt: str,
        reward: SupportsFloat,
        *,
        rollouts: int = 1,
        cost: float | None = None,
        step: int | None = None,
        observed_at: Moment | None = None,
        outcome_id: str | None = None,
        tokens: float | None = None,
        decision_id: str | None = None,
    ) -> None:
        """Add one outcome. Waits while too many are unacknowledged.

        Args:
            prompt: 1 to 65,536 bytes of UTF-8.
            reward: mean reward over the rollouts, in [0, 1].
            rollouts: number of attempts behind the reward, 1 to 1,000,000.
            cost: mean cost of one rollout, >= 0.
            step: checkpoint that made the rollouts, >= 0; None: the step of the stream.
            observed_at: time of the observation; None: when the server receives it.
            outcome_id: identifier, unique within the policy; None: a random one.
            tokens: mean number of tokens of one rollout, >= 0.
            decision_id: allocation or ranking that led to the rollouts.

        Raises:
            InvalidArgument: an argument is out of range, or the server rejected an earlier chunk.
            SpoolError: the server is unreachable and the spool folder takes no more.
            Undelivered: there was no room within the timeout.
            VzeroError: the stream has failed or is closed. After any of these errors the outcome
                is not in the stream.
        """
        outcome = build_outcome(
            prompt,
            reward,
            rollouts=rollouts,
            cost=cost,
            step=self._core.step_or_default(step),
            observed_at=observed_at,
            outcome_id=outcome_id,
            tokens=tokens,
            decision_id=decision_id,
        )
        buffer = self._core.buffer
        async with self._changed:
            self._check_open()
            if not buffer.has_room:
                await self._changed.wait_until(
                    lambda: buffer.has_room or buffer.spool_error is not None or self._is_over(),
                    self._timeout,
                )
                self._check_open()
                if not buffer.has_room:
                    raise self._core.no_room_error()
            starts_chunk = buffer.seal_in is None
            if buffer.add(outcome) or starts_chunk:
                self._changed.notify_all()

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until all outcomes added before are acknowledged.

        Args:
            timeout: longest wait, seconds; None: the timeout of the stream.

        Raises:
            Undelivered: some were not acknowledged in time. They stay in the stream.
            InvalidArgument: the server rejected a chunk. It is dropped; later ones are sent.
            VzeroError: the stream has failed or is closed.
        """
        buffer = self._core.buffer
        async with self._changed:
            self._check_open()
            buffer.seal()
            self._changed.notify_all()
            target = buffer.next_number
            await self._changed.wait_until(
                lambda: buffer.oldest_number >= target or self._is_over(),
                self._timeout if timeout is None else timeout,
            )
            self._core.check()
            if buffer.oldest_number < target:
                raise self._core.undelivered_error()

    async def close(self, timeout: float | None = None) -> None:
        """Deliver pending outcomes and end the stream; a second call does nothing.

        Outcomes that cannot be delivered in time stay in the spool folder for the next stream.

        Args:
            timeout: longest wait for the server, seconds; None: the timeout of the stream.

        Raises:
            Undelivered: some outcomes were not delivered and are in no spool folder.
            InvalidArgument: the server rejected a chunk.
            VzeroError: the stream has failed.
        """
        async with self._changed:
            if self._closing:
                return
            self._closing = True
            self._core.buffer.seal()
            self._changed.notify_all()
            await self._changed.wait_until(
                lambda: self._done or not self._worker.started,
                self._timeout if timeout is None else timeout,
            )
            self._stop = True
            self._changed.notify_all()
        await self._worker.join()
        await async_run_blocking(self._core.settle)

    async def __aenter__(self) -> Self:
        self._worker.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except VzeroError as close_error:
            if error is None:
                raise
            logger.error("closing the stream failed after another error: %s", close_error)

    def _check_open(self) -> None:
        self._core.check()
        if self._closing:
            raise VzeroError("the stream is closed: open another one")
        if not self._worker.started:
            raise VzeroError("the stream has not started: use it in an 'async with' block")

    def _is_over(self) -> bool:
        return self._core.has_error or self._done

    async def _run(self) -> None:
        """Connect whenever there is something to send, until the stream ends."""
        try:
            pause = 0.0
            while await self._wait_for_work(pause):
                pause = await self._run_call()
        except Exception as error:
            logger.exception("the stream failed unexpectedly")
            self._core.failure = VzeroError(f"the stream failed unexpectedly: {error!r}")
        finally:
            async with self._changed:
                self._done = True
                self._changed.notify_all()

    async def _wait_for_work(self, pause: float) -> bool:
        """Wait, after a pause in seconds, for a chunk to send; return False if the stream ends."""
        buffer = self._core.buffer

        def ends() -> bool:
            drained = self._closing and not buffer.pending
            return self._stop or drained or self._core.failure is not None

        if pause:
            await self._maintain_until(ends, pause)
        await self._maintain_until(lambda: ends() or buffer.has_unsent)
        return not ends()

    async def _run_call(self) -> float:
        """Run one call until it ends; return the pause before the next one, in seconds."""
        async with self._changed:
            self._call_number += 1
            self._call_ended = False
            self._call_error = None
            self._last_progress = time.monotonic()
            requests = self._requests(self._call_number)
        try:
            call = self._open_call(requests)
        except ASYNC_CLOSED_CHANNEL_ERRORS:
            self._call_error = VzeroError(
                "the client was closed before its stream: close the stream first"
            )
        else:
            reader = AsyncWorker(lambda: self._read(call), "vzero-stream-reader")
            reader.start()
            stalled = False
            try:
                await self._maintain_until(
                    lambda: self._call_ended or self._stop or self._is_stalled()
                )
                stalled = not self._call_ended and not self._stop
            finally:
                call.cancel()
                await reader.join()
            if stalled:
                self._call_error = DeadlineExceeded(
                    f"no acknowledgement within {self._timeout:g} s"
                )
        async with self._changed:
            self._call_number += 1  # ends the requests of this call
            pause = self._core.call_ended(self._call_error)
            self._changed.notify_all()
        return pause

    def _is_stalled(self) -> bool:
        late = time.monotonic() - self._last_progress > self._timeout
        return late and self._core.buffer.in_flight > 0

    async def _maintain_until(
        self, predicate: Callable[[], bool], seconds: float | None = None
    ) -> None:
        """Seal and spool chunks as they become due, until the predicate holds or the time is up."""
        buffer = self._core.buffer
        deadline = Deadline(seconds) if seconds is not None else None
        async with self._changed:
            while not predicate() and (deadline is None or deadline.left()):
                if buffer.seal_in == 0.0:
                    buffer.seal()
                elif chunk := buffer.start_spooling():
                    async with self._changed.released():
                        stored = await async_run_blocking(self._core.store, chunk)
                    buffer.finish_spooling(*stored)
                else:
                    waits = (buffer.seal_in, deadline.left() if deadline else None, _POLL_SECONDS)
                    await self._changed.wait_change(min(w for w in waits if w is not None))
                    continue
                self._changed.notify_all()

    async def _requests(self, call_number: int) -> AsyncIterator[value_pb2.UpdateContextRequest]:
        """Yield the chunks of one call. gRPC iterates, in the background."""
        buffer = self._core.buffer

        def finished() -> bool:
            ended = self._call_ended or call_number != self._call_number
            return ended or (self._closing and not buffer.has_unsent)

        while True:
            async with self._changed:
                await self._changed.wait_until(lambda: finished() or buffer.can_send)
                if finished():
                    return
                if not buffer.in_flight:
                    self._last_progress = time.monotonic()
                request = buffer.take()
                if request is None:
                    self._changed.notify_all()
                    continue
            yield request

    async def _read(self, call: AsyncUpdateCall) -> None:
        """Read acknowledgements until the call ends."""
        error: VzeroError | None = None
        try:
            async for reply in call:
                async with self._changed:
                    self._core.acknowledge(reply)
                    self._last_progress = time.monotonic()
                    self._changed.notify_all()
        except AsyncCancelled:  # raised in the reader of a cancelled call
            error = VzeroError("the call was cancelled", code=grpc.StatusCode.CANCELLED)
        except grpc.RpcError as failure:
            error = from_rpc_error(failure)
        except VzeroError as failure:
            error = failure
        async with self._changed:
            self._call_error = error
            self._call_ended = True
            self._changed.notify_all()
