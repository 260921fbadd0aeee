"""Outcomes sent in the background over one long call, for asyncio programs."""

import asyncio
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, SupportsFloat, TypeAlias

import grpc

from vzero import outcome
from vzero.courier import Courier
from vzero.errors import DeadlineExceeded, VzeroError, from_rpc_error
from vzero.outcome import Moment
from vzero.progress import Progress
from vzero.retry import Deadline
from vzero.v1 import value_pb2

logger = logging.getLogger(__name__)

_TICK = 1.0

Call: TypeAlias = (
    "grpc.aio.StreamStreamCall[value_pb2.UpdateContextRequest, value_pb2.UpdateContextResponse]"
)
Send: TypeAlias = "Callable[[], Call]"


class AsyncStream(Progress):
    """Sends outcomes in the background; made by `AsyncClient.stream`, used in ``async with``.

    It does what `Stream` does, on the event loop. Its methods must be called from that loop.
    """

    def __init__(self, courier: Courier, send: Send, timeout: float) -> None:
        """Prepare the stream; it starts with the ``async with`` block.

        Args:
            courier: the outcomes.
            send: opens a call.
            timeout: longest wait of a method, and for an acknowledgement, seconds.
        """
        self._courier = courier
        self._send = send
        self._timeout = timeout
        self._changed = asyncio.Event()
        self._ended = False
        self._error: VzeroError | None = None
        self._progress = 0.0
        self._closing = False
        self._stop = False
        self._task: asyncio.Task[None] | None = None

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
        """Take one outcome, as `Stream.add` does. Waits while too many are unacknowledged."""
        made = outcome.build(
            prompt,
            reward,
            rollouts=rollouts,
            cost=cost,
            step=self._courier.step(step),
            observed_at=observed_at,
            outcome_id=outcome_id,
            tokens=tokens,
            decision_id=decision_id,
        )
        backlog = self._courier.backlog
        self._check()
        if not backlog.has_room:
            await self._wait(
                lambda: backlog.has_room or bool(backlog.spool_error) or self._over(),
                self._timeout,
            )
            self._check()
            if not backlog.has_room:
                raise self._courier.no_room()
        first = backlog.seal_in is None
        if backlog.add(made) or first:
            self._wake()

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until all outcomes added before are acknowledged, as `Stream.flush` does."""
        backlog = self._courier.backlog
        self._check()
        backlog.seal()
        self._wake()
        mark = backlog.newest
        await self._wait(
            lambda: backlog.oldest >= mark or self._over(),
            self._timeout if timeout is None else timeout,
        )
        self._courier.check()
        if backlog.oldest < mark:
            raise self._courier.undelivered()

    async def close(self, timeout: float | None = None) -> None:
        """Deliver what is pending and end the stream, as `Stream.close` does."""
        if self._closing:
            return
        self._closing = True
        self._courier.backlog.seal()
        self._wake()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=self._timeout if timeout is None else timeout)
            self._stop = True
            self._wake()
            await asyncio.wait([self._task])
        await asyncio.to_thread(self._courier.settle)

    async def __aenter__(self) -> Self:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="vzero-stream")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except VzeroError as problem:
            if error is None:
                raise
            logger.error("while another error ended the stream: %s", problem)

    def _check(self) -> None:
        self._courier.check()
        if self._closing or self._task is None:
            raise VzeroError("the stream is closed" if self._closing else "use async with first")

    def _over(self) -> bool:
        return self._courier.stuck or self._task is None or self._task.done()

    def _wake(self) -> None:
        """Let all who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self, until: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until the condition holds or the time is up."""
        try:
            async with asyncio.timeout(seconds):
                while not until():
                    await self._changed.wait()
        except TimeoutError:
            return

    async def _run(self) -> None:
        """Connect whenever there is something to send."""
        try:
            pause = 0.0
            while await self._await_work(pause):
                pause = await self._converse()
        except Exception as error:
            logger.exception("the stream broke down")
            self._courier.failed = VzeroError(f"the stream broke down: {error!r}")
        finally:
            asyncio.get_running_loop().call_soon(self._wake)

    async def _await_work(self, pause: float) -> bool:
        """Wait, after a pause, for something to send; False when the stream is over."""
        backlog = self._courier.backlog

        def over() -> bool:
            drained = self._closing and not backlog.pending
            return self._stop or drained or self._courier.failed is not None

        if pause:
            await self._tend(over, pause)
        await self._tend(lambda: over() or backlog.unsent)
        return not over()

    async def _converse(self) -> float:
        """Run one call to its end; return the pause before the next."""
        self._ended = False
        self._error = None
        self._progress = time.monotonic()
        try:
            call = self._send()
        except (grpc.aio.UsageError, RuntimeError):  # raised by gRPC on a closed channel
            self._error = VzeroError("the client was closed before its stream")
        else:
            tasks = [
                asyncio.create_task(self._read(call)),
                asyncio.create_task(self._write(call)),
            ]
            try:
                await self._tend(lambda: self._ended or self._stop or self._stalled())
                stalled = not self._ended and not self._stop
            finally:
                call.cancel()
                self._ended = True
                self._wake()
                await asyncio.wait(tasks)
            if stalled:
                self._error = DeadlineExceeded(f"no acknowledgement within {self._timeout:g} s")
        pause = self._courier.ended(self._error)
        self._wake()
        return pause

    async def _tend(self, until: Callable[[], bool], seconds: float | None = None) -> None:
        """Seal chunks that are due and spool, until the condition holds or the time is up."""
        backlog = self._courier.backlog
        deadline = Deadline(seconds) if seconds is not None else None
        while not until() and (deadline is None or deadline.left()):
            if backlog.seal_in == 0.0:
                backlog.seal()
                self._wake()
            elif chunk := backlog.to_spool():
                backlog.spooled(*await asyncio.to_thread(self._courier.store, chunk))
                self._wake()
            else:
                waits = (backlog.seal_in, deadline.left() if deadline else None, _TICK)
                try:
                    async with asyncio.timeout(min(wait for wait in waits if wait is not None)):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def _stalled(self) -> bool:
        late = time.monotonic() - self._progress > self._timeout
        return late and self._courier.backlog.in_flight > 0

    async def _write(self, call: Call) -> None:
        """Send chunks until the call ends."""
        backlog = self._courier.backlog

        def finished() -> bool:
            return self._ended or (self._closing and not backlog.unsent)

        try:
            while True:
                await self._wait(lambda: finished() or backlog.sendable)
                if finished():
                    break
                if not backlog.in_flight:
                    self._progress = time.monotonic()
                request = backlog.take()
                if request is None:
                    self._wake()
                else:
                    await call.write(request)
            if not self._ended:
                await call.done_writing()
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return  # the reader learns why

    async def _read(self, call: Call) -> None:
        """Take acknowledgements until the call ends."""
        error: VzeroError | None = None
        try:
            async for response in call:
                self._courier.acked(response)
                self._progress = time.monotonic()
                self._wake()
        except grpc.RpcError as failure:
            error = from_rpc_error(failure)
        except VzeroError as failure:
            error = failure
        except asyncio.CancelledError:  # what a cancelled call raises in its reader
            error = VzeroError("the call was cancelled", code=grpc.StatusCode.CANCELLED)
        self._error = error
        self._ended = True
        self._wake()
