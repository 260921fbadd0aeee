"""The queue in front of the estimators: queries gather while a batch is computed."""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vzero_server.engine.estimators.base import Estimator, EstimatorContext, Query
from vzero_server.observability.liveness import Monitored, MonitoredTask, Worker
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import is_recording, record
from vzero_server.types import Features
from vzero_server.values.beta import Values

logger = logging.getLogger(__name__)

# Prompts of one piece of a call, and about how long a piece takes, in s.
_PIECE_PROMPTS, _PIECE_SECONDS = 512, 0.005
# Prompts of one batch.
_BATCH_PROMPTS = 1024


@dataclass(order=True, slots=True)
class _Piece:
    """Some prompts of one call. Later pieces of a long call queue as if they had come later."""

    due: float
    number: int
    estimator: Estimator = field(compare=False)
    query: Query = field(compare=False)
    answer: "asyncio.Future[Values]" = field(compare=False)
    # When it was computed, on the monotonic clock.
    began: float = field(default=0.0, compare=False)
    ended: float = field(default=0.0, compare=False)


class EstimatorBatcher:
    """Computes the queries of all calls, whichever policies they are about.

    One thread computes; queries that arrive in the meantime form the next batch. A long call is
    cut into pieces, so that a short one waits for one piece at most. A cheap query that arrives
    alone is computed on the event loop: the way to the thread and back would take longer.

    All methods belong to one event loop.

    Attributes:
        monitored: What must be alive for it to answer.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics()
        self._queue: list[_Piece] = []
        self._numbers = itertools.count()
        self._arrived = asyncio.Event()
        # Whether the dispatcher waits for an estimator.
        self._computing = False
        self._worker = Worker("estimator")
        self._dispatcher = asyncio.get_running_loop().create_task(self._dispatch())
        dispatcher = MonitoredTask("estimator dispatcher", self._dispatcher)
        self.monitored: tuple[Monitored, ...] = (self._worker, dispatcher)
        self._metrics.read(
            "queued_queries", "Pieces of calls waiting for an estimator.", self._queue.__len__
        )

    def __len__(self) -> int:
        """Return the number of queued pieces."""
        return len(self._queue)

    async def close(self) -> None:
        """Stop; callers that still wait are cancelled."""
        self._dispatcher.cancel()
        await asyncio.gather(self._dispatcher, return_exceptions=True)
        for piece in self._queue:
            piece.answer.cancel()
        self._worker.shutdown()

    async def predict(
        self, contexts: Sequence[EstimatorContext], features: Features
    ) -> list[Values]:
        """Return the values of the same prompts under several contexts, in order.

        Args:
            contexts: The contexts, each with the estimator that predicts from it.
            features: Feature vectors of the prompts, ``[n, columns]``.
        """
        arrived = time.monotonic()
        loop = asyncio.get_running_loop()
        # Cut once, so that an estimator can tell that many contexts are asked the same.
        parts = [
            features[start : start + _PIECE_PROMPTS]
            for start in range(0, len(features), _PIECE_PROMPTS)
        ]
        pieces = [
            _Piece(
                due=arrived + index * _PIECE_SECONDS,
                number=next(self._numbers),
                estimator=context.estimator,
                query=Query(context.fitted, part),
                answer=loop.create_future(),
            )
            for context in contexts
            for index, part in enumerate(parts)
        ]
        for piece in pieces:
            heapq.heappush(self._queue, piece)
        try:
            if inline := _runs_inline(pieces):
                # Callers that are about to ask go first, and share the batch.
                await asyncio.sleep(0)
            if inline and self._queue == pieces and not self._computing:
                # The dispatcher would have to be woken, and to wake this task in turn.
                await self._run(list(self._next_batch()))
            else:
                self._arrived.set()
            answers = [await piece.answer for piece in pieces]
            if is_recording():
                _trace(arrived, pieces)
        finally:
            for piece in pieces:
                # Pieces of a caller that has left are not computed.
                piece.answer.cancel()
        if len(parts) == 1:
            return answers
        starts = range(0, len(answers), len(parts))
        return [Values.joined(answers[start : start + len(parts)]) for start in starts]

    async def _dispatch(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := list(self._next_batch()):
                self._computing = True
                await self._run(batch)
                self._computing = False

    async def _run(self, batch: list[_Piece]) -> None:
        """Compute a batch, and measure how long that takes."""
        began = time.monotonic()
        for piece in batch:
            piece.began = began
        # Counted once for a call about many contexts. The later pieces of a long call are not
        # late before they are due.
        for due in {piece.due for piece in batch}:
            self._metrics.estimator_queue_seconds.observe(max(0.0, began - due))
        await self._compute(batch)
        ended = time.monotonic()
        for piece in batch:
            piece.ended = ended
        self._metrics.estimator_seconds.observe(ended - began)
        prompts = sum(len(piece.query) for piece in batch)
        self._metrics.estimator_batch_prompts.observe(prompts)

    def _next_batch(self) -> Iterator[_Piece]:
        """Take the pieces of the next batch from the queue, all for one estimator."""
        estimator, prompts = None, 0
        while self._queue:
            piece = self._queue[0]
            if not piece.answer.done():
                if estimator is not None and piece.estimator is not estimator:
                    return
                prompts += len(piece.query)
                if estimator is not None and prompts > _BATCH_PROMPTS:
                    return
                estimator = piece.estimator
                yield piece
            else:
                self._metrics.estimator_dropped.inc()
            heapq.heappop(self._queue)

    async def _compute(self, batch: list[_Piece]) -> None:
        queries = [piece.query for piece in batch]
        estimator = batch[0].estimator
        try:
            if _runs_inline(batch):
                answers = estimator.predict(queries)
            else:
                answers = await asyncio.get_running_loop().run_in_executor(
                    self._worker, estimator.predict, queries
                )
        except Exception as error:
            if len(batch) > 1:
                # One query must not fail the calls that it shares a batch with.
                logger.warning("a batch of %d queries failed; running them singly", len(batch))
                for piece in batch:
                    await self._compute([piece])
                return
            logger.exception("an estimator failed on a query")
            if not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for piece, answer in zip(batch, answers, strict=True):
            if not piece.answer.done():
                piece.answer.set_result(answer)


def _runs_inline(batch: Sequence[_Piece]) -> bool:
    """Whether to compute a batch on the event loop."""
    return len(batch) == 1 and batch[0].estimator.runs_inline(batch[0].query)


def _trace(arrived: float, pieces: Sequence[_Piece]) -> None:
    """Record for how long a call waited for the estimator, and how long it computed."""
    began = max(arrived, min(piece.began for piece in pieces))
    record("estimator queue", arrived, began)
    record("estimator", began, max(began, *(piece.ended for piece in pieces)))
