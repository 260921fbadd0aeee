"""The queue in front of the estimators: questions gather while a batch is answered."""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from vzero_server.engine.adjust.peers import PeerEvidence
from vzero_server.engine.context.context_cache import CachedContext
from vzero_server.engine.estimators.base import Question
from vzero_server.observability.liveness import Monitored, MonitoredTask, Worker
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import record, wanted
from vzero_server.types import Features
from vzero_server.values.values import Values

logger = logging.getLogger(__name__)

# Queries of one piece of a call, and about how long a piece takes, in s.
_PIECE, _PIECE_SECONDS = 512, 0.005
# Queries of one batch.
_BATCH = 1024


@dataclass(order=True, slots=True)
class _Piece:
    """Some queries of one call. A later piece of a long call counts as if it had come later."""

    due: float
    number: int
    encoded: CachedContext = field(compare=False)
    question: Question = field(compare=False)
    answer: "asyncio.Future[Values]" = field(compare=False)
    # When it was at the estimator, on the monotonic clock.
    began: float = field(default=0.0, compare=False)
    ended: float = field(default=0.0, compare=False)


class EstimatorBatcher:
    """Answers the questions of all calls, whichever policies they are about.

    One thread computes; what arrives in the meantime is answered together. A long call
    goes in pieces, so that a short one waits for a piece at most. A quick question that
    comes alone is answered on the loop: the way to the thread and back takes longer.

    All methods belong to one event loop.

    Attributes:
        monitored: What must work for it to answer.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics()
        self._waiting: list[_Piece] = []
        self._numbers = itertools.count()
        self._arrived = asyncio.Event()
        # Whether the dispatcher has a batch at an estimator.
        self._running = False
        self._worker = Worker("head")
        self._dispatcher = asyncio.get_running_loop().create_task(self._dispatch())
        dispatcher = MonitoredTask("dispatcher of questions", self._dispatcher)
        self.monitored: tuple[Monitored, ...] = (self._worker, dispatcher)
        self._metrics.read(
            "queued_questions", "Pieces of calls waiting for an estimator.", self._waiting.__len__
        )

    def __len__(self) -> int:
        """Pieces waiting."""
        return len(self._waiting)

    async def close(self) -> None:
        """Stop; callers still waiting are cancelled."""
        self._dispatcher.cancel()
        await asyncio.gather(self._dispatcher, return_exceptions=True)
        for piece in self._waiting:
            piece.answer.cancel()
        self._worker.shutdown()

    async def values_of_all(
        self, contexts: Sequence[tuple[CachedContext, PeerEvidence | None]], queries: Features
    ) -> list[Values]:
        """Values of the same prompts under several contexts, in order.

        Args:
            contexts: Each with what other policies say of the prompts.
            queries: Feature vectors of the prompts, ``[n, columns]``.
        """
        now = time.monotonic()
        loop = asyncio.get_running_loop()
        # Cut once, so that an estimator can tell that many contexts are asked the same.
        parts = [queries[at : at + _PIECE] for at in range(0, len(queries), _PIECE)]
        pieces = [
            _Piece(
                due=now + index * _PIECE_SECONDS,
                number=next(self._numbers),
                encoded=encoded,
                question=Question(encoded.context, part, _of(hearsay, index, parts)),
                answer=loop.create_future(),
            )
            for encoded, hearsay in contexts
            for index, part in enumerate(parts)
        ]
        for piece in pieces:
            heapq.heappush(self._waiting, piece)
        try:
            if quick := _quick(pieces):
                # Whoever else is about to ask comes first, and shares the batch.
                await asyncio.sleep(0)
            if quick and self._waiting == pieces and not self._running:
                # The dispatcher would have to be woken, and to wake this task in turn.
                await self._run(list(self._next()))
            else:
                self._arrived.set()
            answers = [await piece.answer for piece in pieces]
            if wanted():
                _trace(now, pieces)
        finally:
            for piece in pieces:
                # What nobody waits for any more is not computed.
                piece.answer.cancel()
        if len(parts) == 1:
            return answers
        own = range(0, len(answers), len(parts))
        return [Values.joined(answers[at : at + len(parts)]) for at in own]

    async def _dispatch(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := list(self._next()):
                self._running = True
                await self._run(batch)
                self._running = False

    async def _run(self, batch: list[_Piece]) -> None:
        """Answer a batch, and measure what that takes."""
        began = time.monotonic()
        for piece in batch:
            piece.began = began
        # Once for a call about many contexts; the later pieces of a long one are not late
        # before they are due.
        for due in {piece.due for piece in batch}:
            self._metrics.question_queue_seconds.observe(max(0.0, began - due))
        await self._answer(batch)
        ended = time.monotonic()
        for piece in batch:
            piece.ended = ended
        self._metrics.head_seconds.observe(ended - began)
        queries = sum(len(piece.question.queries) for piece in batch)
        self._metrics.head_batch_queries.observe(queries)

    def _next(self) -> Iterator[_Piece]:
        """The pieces of the next batch, all for one estimator."""
        estimator, queries = None, 0
        while self._waiting:
            piece = self._waiting[0]
            if not piece.answer.done():
                if estimator is not None and piece.encoded.estimator is not estimator:
                    return
                queries += len(piece.question.queries)
                if estimator is not None and queries > _BATCH:
                    return
                estimator = piece.encoded.estimator
                yield piece
            else:
                self._metrics.dropped_questions.inc()
            heapq.heappop(self._waiting)

    async def _answer(self, batch: list[_Piece]) -> None:
        questions = [piece.question for piece in batch]
        estimator = batch[0].encoded.estimator
        try:
            if _quick(batch):
                answers = estimator.predict(questions)
            else:
                answers = await asyncio.get_running_loop().run_in_executor(
                    self._worker, estimator.predict, questions
                )
        except Exception as error:
            if len(batch) > 1:
                # One question must not fail the calls it shares a batch with.
                logger.warning("a batch of %d questions failed; answering one by one", len(batch))
                for piece in batch:
                    await self._answer([piece])
                return
            logger.exception("an estimator failed on a question")
            if not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        for piece, answer in zip(batch, answers, strict=True):
            if not piece.answer.done():
                piece.answer.set_result(answer)


def _quick(batch: Sequence[_Piece]) -> bool:
    """Whether to answer a batch on the loop."""
    return len(batch) == 1 and batch[0].encoded.estimator.quick(batch[0].question)


def _of(hearsay: PeerEvidence | None, index: int, parts: Sequence[Features]) -> PeerEvidence | None:
    """What others say of one part of the queries."""
    if hearsay is None or len(parts) == 1:
        return hearsay
    first = index * _PIECE
    return replace(hearsay, rewards=hearsay.rewards[:, first : first + len(parts[index])])


def _trace(asked: float, pieces: Sequence[_Piece]) -> None:
    """Tell the trace of a call how long it waited for the estimator, and was at it."""
    began = max(asked, min(piece.began for piece in pieces))
    record("queue", asked, began)
    record("head", began, max(began, *(piece.ended for piece in pieces)))
