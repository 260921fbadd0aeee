"""The queue in front of the backbone: prompts gather while a batch runs."""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from vzero_server.engine.embedding.batch_budget import BatchBudget
from vzero_server.engine.embedding.encoder import Encoder
from vzero_server.engine.embedding.prompt_queue import PromptQueue, QueuedPrompt
from vzero_server.engine.embedding.throughput import Throughput
from vzero_server.errors import OverloadedError
from vzero_server.observability.liveness import Monitored, MonitoredTask, Worker
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import is_recording, record
from vzero_server.types import Features

logger = logging.getLogger(__name__)

# Prompts tokenised in one job: few enough that the first batch starts early.
_TOKENISE_PROMPTS = 256


class EmbeddingBatcher:
    """Forms batches of queued prompts and runs them on the device's only thread.

    It never delays a prompt to fill a batch: while one batch runs, prompts gather for the
    next. A prompt that several callers ask for is computed once. When the last caller of a
    prompt leaves (cancelled, or past its deadline), the prompt leaves the queue at once and
    no longer counts against any limit; one that is on the device finishes. Prompts asked for
    in the background run when no other prompt is queued.

    Queueing is fair: a prompt is due when its call arrived, plus the time the device needs
    for the prompts before it in the same call. Each batch holds the prompt that is due first,
    and prompts due soon after it as its budget chooses. So a call for one prompt does not
    wait for a call for thousands, and the large call is not starved either.

    All methods belong to one event loop.

    Attributes:
        monitored: Threads and tasks that must be alive for it to answer.
    """

    def __init__(
        self,
        encoder: Encoder,
        budget: BatchBudget,
        *,
        max_queued_prompts: int,
        max_delay: float = math.inf,
        metrics: Metrics | None = None,
    ) -> None:
        """Set up the queue.

        Args:
            encoder: The backbone.
            budget: Chooses the prompts of a batch.
            max_queued_prompts: Most distinct prompts that callers wait for; further calls
                are refused. A larger call is accepted when the queue is empty.
            max_delay: Calls are also refused while the prompts that are due take longer than
                this many seconds, so that accepted calls are answered soon under overload.
            metrics: Where it is measured.
        """
        self._encoder = encoder
        self._budget = budget
        self._max_queued_prompts = max_queued_prompts
        self._max_delay = max_delay
        # All that a caller can join, by digest. The abandoned ones run, and have no caller.
        self._entries: dict[bytes, QueuedPrompt] = {}
        self._abandoned: set[QueuedPrompt] = set()
        # An entry is tokenised, then queued in one of two queues, then on the device.
        self._tokenising: set[QueuedPrompt] = set()
        self._urgent = PromptQueue()
        self._background = PromptQueue()
        self._running_tokens = 0
        self._arrivals = itertools.count()
        self._arrived = asyncio.Event()
        self._throughput = Throughput()
        self._device = Worker("engine")
        self._tokenisers = Worker("tokenise")
        self._metrics = metrics or Metrics()
        self._metrics.read(
            "queued_prompts",
            "Distinct prompts, waiting or running, that callers wait for.",
            self._size,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        dispatcher = MonitoredTask("dispatcher of prompts", self._spawn(self._dispatch()))
        self.monitored: tuple[Monitored, ...] = (self._device, self._tokenisers, dispatcher)

    def __len__(self) -> int:
        """Distinct prompts, waiting or running, that callers wait for."""
        return len(self._entries) - len(self._abandoned)

    async def close(self) -> None:
        """Stop; callers still waiting are cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for entry in self._entries.values():
            entry.vector.cancel()
        self._device.shutdown()
        self._tokenisers.shutdown()

    async def embed(
        self, prompts: Mapping[bytes, str], *, background: bool = False
    ) -> dict[bytes, Features]:
        """Embed prompts.

        Args:
            prompts: Texts by digest.
            background: Run them only when no other prompt is queued.

        Returns:
            Feature vectors by digest.

        Raises:
            OverloadedError: The queue is full.
        """
        new = [digest for digest in prompts if digest not in self._entries]
        if len(self) and len(self) + len(new) > self._max_queued_prompts:
            raise OverloadedError(self._retry_after())
        if new and not background:
            self.check_delay()
        now = time.monotonic()
        if new:
            self._admit([(digest, prompts[digest]) for digest in new], now)
        entries = [self._entries[digest] for digest in prompts]
        for entry in entries:
            self._join(entry, now, background=background)
        try:
            # Leaves the futures alone when cancelled: others may wait for them.
            await asyncio.wait(
                [entry.vector for entry in entries], return_when=asyncio.FIRST_EXCEPTION
            )
            if is_recording():
                _trace(now, entries)
            return {entry.digest: entry.vector.result() for entry in entries}
        finally:
            for entry in entries:
                self._leave(entry, background=background)

    def check_delay(self) -> None:
        """Check that a new prompt would be answered in time.

        Raises:
            OverloadedError: The prompts that are due take longer than ``max_delay``.
        """
        now = time.monotonic()
        tokenising = [
            entry for entry in self._tokenising if entry.due <= now and entry.urgent_waiters
        ]
        tokens = self._urgent.due_tokens(now) + self._running_tokens
        if self._throughput.seconds(tokens, len(tokenising)) > self._max_delay:
            raise OverloadedError(self._retry_after())

    def _size(self) -> float:
        return float(len(self))

    def _retry_after(self) -> float:
        return min(30.0, max(0.1, len(self) / self._throughput.prompts_per_second))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _admit(self, prompts: Sequence[tuple[bytes, str]], now: float) -> None:
        """Create the entries of new prompts of one call and start to tokenise them."""
        loop = asyncio.get_running_loop()
        entries = []
        for place, (digest, prompt) in enumerate(prompts):
            due = now + place / self._throughput.prompts_per_second
            position = (due, next(self._arrivals))
            entry = QueuedPrompt(digest, prompt, due, position, now, loop.create_future())
            self._entries[digest] = entry
            entries.append(entry)
        self._tokenising.update(entries)
        self._spawn(self._tokenise(entries))

    def _join(self, entry: QueuedPrompt, now: float, *, background: bool) -> None:
        """Add a caller to an entry."""
        self._abandoned.discard(entry)
        if not background and not entry.urgent_waiters and entry.background_waiters:
            _move(entry, self._urgent, (now, next(self._arrivals)))
        if background:
            entry.background_waiters += 1
        else:
            entry.urgent_waiters += 1

    def _leave(self, entry: QueuedPrompt, *, background: bool) -> None:
        """Remove a caller from an entry, and the entry if it has no other caller."""
        if background:
            entry.background_waiters -= 1
        else:
            entry.urgent_waiters -= 1
        if entry.vector.done():
            return
        if not entry.waiters:
            self._drop(entry)
        elif not background and not entry.urgent_waiters:
            _move(entry, self._background, entry.position)

    def _drop(self, entry: QueuedPrompt) -> None:
        """Take an entry without callers out of the queue; let it finish if it runs."""
        if entry.on_device:
            self._abandoned.add(entry)
            return
        if entry.queue is not None:
            entry.queue.remove(entry)
        self._tokenising.discard(entry)
        del self._entries[entry.digest]
        entry.vector.cancel()
        self._metrics.embedding_dropped.inc()

    async def _tokenise(self, entries: Sequence[QueuedPrompt]) -> None:
        """Tokenise new entries and queue them; not cancelled with the call they came from."""
        for start in range(0, len(entries), _TOKENISE_PROMPTS):
            piece = entries[start : start + _TOKENISE_PROMPTS]
            if piece := [entry for entry in piece if not entry.vector.done()]:
                started = time.monotonic()
                await self._tokenise_piece(piece)
                self._metrics.tokenise_seconds.observe(time.monotonic() - started)

    async def _tokenise_piece(self, piece: Sequence[QueuedPrompt]) -> None:
        prompts = [entry.prompt for entry in piece]
        try:
            rows = await asyncio.get_running_loop().run_in_executor(
                self._tokenisers, self._encoder.tokenize, prompts
            )
        except Exception as error:
            if len(piece) > 1:
                # A bad prompt must not fail the prompts that arrived with it.
                logger.warning("tokenising %d prompts failed; retrying one by one", len(piece))
                for entry in piece:
                    await self._tokenise_piece([entry])
            else:
                logger.exception("the tokeniser failed on a prompt")
                self._resolve(piece[0], error)
            return
        now = time.monotonic()
        for entry, tokens in zip(piece, rows, strict=True):
            # The last caller may have left meanwhile.
            if entry in self._tokenising:
                self._tokenising.remove(entry)
                entry.tokens, entry.prompt, entry.tokenised_at = tokens, "", now
                (self._urgent if entry.urgent_waiters else self._background).push(entry)
        self._arrived.set()

    async def _dispatch(self) -> None:
        """Run batches, one after the other."""
        while True:
            batch = self._next_batch()
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            started = time.monotonic()
            for entry in batch:
                entry.on_device = True
                entry.started_at = started
                self._metrics.embedding_queue_seconds.observe(started - entry.arrived_at)
            tokens = self._running_tokens = sum(len(entry.tokens) for entry in batch)
            await self._run(batch)
            self._running_tokens = 0
            finished = time.monotonic()
            for entry in batch:
                entry.finished_at = finished
            self._metrics.embedding_seconds.observe(finished - started)
            self._metrics.embedding_batch_prompts.observe(len(batch))
            self._metrics.embedding_batch_tokens.observe(tokens)
            self._throughput.record(len(batch), tokens, finished - started)

    async def _run(self, batch: Sequence[QueuedPrompt]) -> None:
        tokens = [entry.tokens for entry in batch]
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(
                self._device, self._encoder.embed, tokens
            )
        except Exception as error:
            if len(batch) > 1:
                # A bad prompt must not fail the calls that share its batch.
                logger.warning("a batch of %d prompts failed; retrying one by one", len(batch))
                for entry in batch:
                    await self._run([entry])
            else:
                logger.exception("the backbone failed on a prompt")
                self._resolve(batch[0], error)
            return
        for entry, vector in zip(batch, vectors, strict=True):
            self._resolve(entry, vector)

    def _next_batch(self) -> Sequence[QueuedPrompt]:
        """Take the next batch, from the background queue only when the urgent one is empty."""
        queue = self._urgent or self._background
        candidates: list[QueuedPrompt] = []
        tokens = 0
        while queue and tokens < self._budget.look_ahead:
            entry = queue.pop()
            candidates.append(entry)
            tokens += len(entry.tokens)
        if not candidates:
            return []
        batch = self._budget.choose(candidates)
        chosen = set(batch)
        for entry in candidates:
            if entry not in chosen:
                queue.push(entry)
        return batch

    def _resolve(self, entry: QueuedPrompt, result: "Features | BaseException") -> None:
        """Hand a result to the callers of an entry, which leaves."""
        if self._entries.get(entry.digest) is not entry:
            # Dropped while its piece was tokenised.
            return
        del self._entries[entry.digest]
        self._tokenising.discard(entry)
        self._abandoned.discard(entry)
        if isinstance(result, BaseException):
            entry.vector.set_exception(result)
            # Mark it as retrieved, whether or not a caller still waits for it.
            entry.vector.exception()
        else:
            entry.vector.set_result(result)


def _move(entry: QueuedPrompt, queue: PromptQueue, position: tuple[float, int]) -> None:
    """Change an entry's position, and move it to another queue if it is queued."""
    left = entry.queue
    if left is not None:
        left.remove(entry)
    entry.due, entry.position = position[0], position
    if left is not None:
        queue.push(entry)


def _trace(arrived_at: float, entries: Sequence[QueuedPrompt]) -> None:
    """Record what a call waited for, as three spans that follow each other."""
    tokenised = max(arrived_at, *(entry.tokenised_at for entry in entries))
    started = max(tokenised, min(entry.started_at for entry in entries))
    record("tokenise", arrived_at, tokenised, prompts=len(entries))
    record("embedding queue", tokenised, started)
    record("embedding", started, max(started, *(entry.finished_at for entry in entries)))
