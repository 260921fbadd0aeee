"""Outcomes sent in the background over one long call, for programs that block."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self, SupportsFloat

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


class _Call(Protocol):
    """A running UpdateContext call."""

    def __iter__(self) -> Iterator[value_pb2.UpdateContextResponse]: ...

    def cancel(self) -> bool: ...


Send = Callable[[Iterator[value_pb2.UpdateContextRequest]], _Call]


class Stream(Progress):
    """Sends outcomes in the background; made by `Client.stream`, used in a ``with`` block.

    Chunks of outcomes are sent until the server has stored them; none is doubled, as each has an
    id. While the server is away they wait in memory or in the spool folder. Any thread may call.
    """

    def __init__(self, courier: Courier, send: Send, timeout: float) -> None:
        """Start the background thread; it connects when there is something to send.

        Args:
            courier: the outcomes.
            send: opens a call.
            timeout: longest wait of a method, and for an acknowledgement, seconds.
        """
        self._courier = courier
        self._send = send
        self._timeout = timeout
        self._changed = threading.Condition()
        self._calls = 0
        self._ended = False
        self._error: VzeroError | None = None
        self._progress = 0.0
        self._closing = False
        self._stop = False
        self._done = False
        self._thread = threading.Thread(target=self._run, name="vzero-stream", daemon=True)
        self._thread.start()

    def add(
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
        """Take one outcome. Blocks while too many are unacknowledged.

        Args:
            prompt: 1 to 65,536 bytes of UTF-8.
            reward: mean reward over the rollouts, in [0, 1].
            rollouts: attempts the reward is the mean of, 1 to 1,000,000.
            cost: mean cost of one rollout, >= 0.
            step: checkpoint that made the rollouts, >= 0; None: the step of the stream.
            observed_at: when the reward was observed; None: when the server receives it.
            outcome_id: unique within the policy; None: a fresh one.
            tokens: mean number of tokens of one rollout, >= 0.
            decision_id: the allocation or ranking that led to the rollouts.

        Raises:
            InvalidArgument: an argument is out of range, or the server refused an earlier chunk.
            SpoolError: the server is away and the spool folder takes no more.
            Undelivered: no room within the timeout.
            VzeroError: the stream has failed or is closed. In no case is the outcome taken.
        """
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
        with self._changed:
            self._check()
            if not backlog.has_room:
                self._changed.wait_for(
                    lambda: backlog.has_room or backlog.spool_error or self._over(), self._timeout
                )
                self._check()
                if not backlog.has_room:
                    raise self._courier.no_room()
            starts = backlog.seal_in is None
            if backlog.add(made) or starts:
                self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all outcomes added before are acknowledged.

        Args:
            timeout: seconds to wait; None: the timeout of the stream.

        Raises:
            Undelivered: they are not, in time. They stay in the stream.
            InvalidArgument: the server refused a chunk; it is dropped and the others go on.
            VzeroError: the stream has failed or is closed.
        """
        backlog = self._courier.backlog
        with self._changed:
            self._check()
            backlog.seal()
            self._changed.notify_all()
            mark = backlog.newest
            self._changed.wait_for(
                lambda: backlog.oldest >= mark or self._over(),
                self._timeout if timeout is None else timeout,
            )
            self._courier.check()
            if backlog.oldest < mark:
                raise self._courier.undelivered()

    def close(self, timeout: float | None = None) -> None:
        """Deliver what is pending and end the stream; a second call does nothing.

        What cannot be delivered in time stays in the spool folder for the next stream.

        Args:
            timeout: seconds to wait for the server; None: the timeout of the stream.

        Raises:
            Undelivered: outcomes could not be delivered and are in no spool folder.
            InvalidArgument: the server refused a chunk.
            VzeroError: the stream has failed.
        """
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._courier.backlog.seal()
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._done, self._timeout if timeout is None else timeout
            )
            self._stop = True
            self._changed.notify_all()
        self._thread.join()
        self._courier.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except VzeroError as problem:
            if error is None:
                raise
            logger.error("while another error ended the stream: %s", problem)

    def _check(self) -> None:
        self._courier.check()
        if self._closing:
            raise VzeroError("the stream is closed")

    def _late(self) -> bool:
        waiting = self._courier.backlog.in_flight > 0
        return waiting and time.monotonic() - self._progress > self._timeout

    def _over(self) -> bool:
        return self._courier.stuck or self._done

    def _run(self) -> None:
        """Body of the background thread: connect whenever there is something to send."""
        try:
            pause = 0.0
            while self._await_work(pause):
                pause = self._converse()
        except Exception as error:
            logger.exception("the stream broke down")
            self._courier.failed = VzeroError(f"the stream broke down: {error!r}")
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _await_work(self, pause: float) -> bool:
        """Wait, after a pause, for something to send; False when the stream is over."""
        backlog = self._courier.backlog

        def over() -> bool:
            drained = self._closing and not backlog.pending
            return self._stop or drained or self._courier.failed is not None

        if pause:
            self._tend(over, pause)
        self._tend(lambda: over() or backlog.unsent)
        return not over()

    def _converse(self) -> float:
        """Run one call to its end; return the pause before the next."""
        with self._changed:
            self._calls += 1
            self._ended = False
            self._error = None
            self._progress = time.monotonic()
            requests = self._requests(self._calls)
        try:
            call = self._send(requests)
        except ValueError:  # raised by gRPC on a closed channel
            self._error = VzeroError("the client was closed before its stream")
        else:
            reader = threading.Thread(target=self._read, args=(call,), daemon=True)
            reader.start()
            self._tend(lambda: self._ended or self._stop or self._late())
            stalled = not self._ended and not self._stop
            call.cancel()
            reader.join()
            if stalled:
                self._error = DeadlineExceeded(f"no acknowledgement within {self._timeout:g} s")
        with self._changed:
            self._calls += 1  # ends the iterator of this call
            pause = self._courier.ended(self._error)
            self._changed.notify_all()
        return pause

    def _tend(self, until: Callable[[], bool], seconds: float | None = None) -> None:
        """Seal chunks that are due and spool, until the condition holds or the time is up."""
        backlog = self._courier.backlog
        deadline = Deadline(seconds) if seconds is not None else None
        with self._changed:
            while not until() and (deadline is None or deadline.left()):
                if backlog.seal_in == 0.0:
                    backlog.seal()
                elif chunk := backlog.to_spool():
                    self._changed.release()
                    try:
                        stored = self._courier.store(chunk)
                    finally:
                        self._changed.acquire()
                    backlog.spooled(*stored)
                else:
                    waits = (backlog.seal_in, deadline.left() if deadline else None, _TICK)
                    self._changed.wait(min(wait for wait in waits if wait is not None))
                    continue
                self._changed.notify_all()

    def _requests(self, call: int) -> Iterator[value_pb2.UpdateContextRequest]:
        """Chunks for one call; gRPC iterates on a thread of its own."""
        backlog = self._courier.backlog

        def finished() -> bool:
            return call != self._calls or (self._closing and not backlog.unsent)

        while True:
            with self._changed:
                self._changed.wait_for(lambda: finished() or backlog.sendable)
                if finished():
                    return
                if not backlog.in_flight:
                    self._progress = time.monotonic()
                request = backlog.take()
                if request is None:
                    self._changed.notify_all()
                    continue
            yield request

    def _read(self, call: _Call) -> None:
        """Body of the reading thread: take acknowledgements until the call ends."""
        error: VzeroError | None = None
        try:
            for response in call:
                with self._changed:
                    self._courier.acked(response)
                    self._progress = time.monotonic()
                    self._changed.notify_all()
        except (grpc.RpcError, VzeroError) as failure:
            error = failure if isinstance(failure, VzeroError) else from_rpc_error(failure)
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()
