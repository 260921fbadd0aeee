"""The queue in front of the backbone: prompts gather while a batch runs."""

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Mapping, Sequence, Sized
from typing import Any, Protocol

from vzero_server.engine.embedding.batch_forms import BatchForm
from vzero_server.engine.embedding.prompt_queue import Item, Pace, PromptQueue
from vzero_server.errors import OverloadedError
from vzero_server.observability.liveness import Monitored, MonitoredTask, Worker
from vzero_server.observability.metrics import Metrics
from vzero_server.observability.tracing import record, wanted
from vzero_server.types import Features

logger = logging.getLogger(__name__)

# Prompts tokenised in one go: little enough that the first batch can start early.
_TOKENISE = 256


class Encoder(Protocol):
    """What the batcher needs; see ``vzero_server.model.prompt_encoder``."""

    def tokenize(self, prompts: Sequence[str]) -> Sequence[Sized]:
        """Prompts made ready, each as long as it has tokens; thread-safe."""

    def embed(self, prompts: Sequence[Any]) -> Features:
        """Feature vectors of one batch of such prompts, ``[len(prompts), columns]``."""


class EmbeddingBatcher:
    """Forms batches of whatever waits and runs them on the one thread of the device.

    No wait is added to fill a batch: while one runs, prompts gather for the next. A
    prompt that is asked for twice is computed once. A prompt whose callers have all
    gone (cancelled, deadline passed) is dropped before it costs anything. Prompts asked
    for in the background run when nobody waits.

    Fair queueing: a prompt is due when its call came, plus the time the device would take
    for the prompts before it in its call. Each batch holds the prompt that is due first,
    and those due soon after that its form chooses. So a call for one prompt does not wait
    for one for thousands, nor the latter for ever.

    All methods belong to one event loop.

    Attributes:
        monitored: What must work for it to answer.
    """

    def __init__(
        self,
        encoder: Encoder,
        form: BatchForm,
        *,
        max_queued_prompts: int,
        max_delay: float = math.inf,
        metrics: Metrics | None = None,
    ) -> None:
        """Set up the queue.

        Args:
            encoder: The backbone.
            form: How batches are made up.
            max_queued_prompts: Most distinct prompts waiting; beyond, callers are refused.
                A call that is larger by itself is let in when nothing waits.
            max_delay: Callers are also refused while the prompts that are due take longer
                than so many seconds: who is let in is answered soon, however many are not.
            metrics: Where it is measured.
        """
        self._encoder = encoder
        self._form = form
        self._max_queued_prompts = max_queued_prompts
        self._max_delay = max_delay
        self._items: dict[bytes, Item] = {}
        self._urgent = PromptQueue()
        self._background = PromptQueue()
        self._arrived = asyncio.Event()
        self._pace = Pace()
        # Tokens on the device, and prompts that have none yet.
        self._running = 0
        self._tokenising: set[Item] = set()
        self._device = Worker("engine")
        self._tokenisers = Worker("tokenise")
        self._metrics = metrics or Metrics()
        self._metrics.read(
            "queued_prompts", "Distinct prompts waiting or running.", self._items.__len__
        )
        self._tasks: set[asyncio.Task[None]] = set()
        dispatcher = MonitoredTask("dispatcher of prompts", self._spawn(self._dispatch()))
        self.monitored: tuple[Monitored, ...] = (self._device, self._tokenisers, dispatcher)

    def __len__(self) -> int:
        """Distinct prompts waiting or running."""
        return len(self._items)

    async def close(self) -> None:
        """Stop; callers still waiting are cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for item in self._items.values():
            item.vector.cancel()
        self._device.shutdown()
        self._tokenisers.shutdown()

    async def embed(
        self, prompts: Mapping[bytes, str], *, background: bool = False
    ) -> dict[bytes, Features]:
        """Embed prompts.

        Args:
            prompts: Texts by digest.
            background: Run them only when nobody else waits.

        Raises:
            OverloadedError: The queue is full.
        """
        new = [digest for digest in prompts if digest not in self._items]
        if self._items and len(self._items) + len(new) > self._max_queued_prompts:
            raise OverloadedError(self._retry_after())
        if new and not background:
            self.check_delay()
        now = time.monotonic()
        loop = asyncio.get_running_loop()
        for place, digest in enumerate(new):
            due = now + place / self._pace.prompts_per_second
            vector = loop.create_future()
            self._items[digest] = Item(digest, prompts[digest], due, background, vector, asked=now)
        if new:
            coming = [self._items[digest] for digest in new]
            self._tokenising.update(coming)
            self._spawn(self._tokenise(coming))
        items = [self._items[digest] for digest in prompts]
        for item in items:
            item.waiters += 1
            if item.background and not background:
                self._promote(item, now)
        try:
            # Leaves the futures alone when cancelled: others may wait for them.
            await asyncio.wait([item.vector for item in items], return_when=asyncio.FIRST_EXCEPTION)
            if wanted():
                _trace(now, items)
            return {item.digest: item.vector.result() for item in items}
        finally:
            for item in items:
                item.waiters -= 1

    def check_delay(self) -> None:
        """Whether a new prompt would be answered in time.

        Raises:
            OverloadedError: It would not.
        """
        now = time.monotonic()
        coming = sum(item.due <= now and not item.background for item in self._tokenising)
        delay = self._pace.seconds(self._urgent.due(now) + self._running, coming)
        if delay > self._max_delay:
            raise OverloadedError(self._retry_after())

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _promote(self, item: Item, now: float) -> None:
        """Let a background item overtake; its old place in the queue is skipped later."""
        item.background = False
        item.due = now
        if item.tokens:
            self._urgent.push(item)

    def _retry_after(self) -> float:
        return min(30.0, max(0.1, len(self._items) / self._pace.prompts_per_second))

    async def _tokenise(self, items: list[Item]) -> None:
        """Tokenise new items and queue them; not cancelled with the caller they came from."""
        for start in range(0, len(items), _TOKENISE):
            if piece := [item for item in items[start : start + _TOKENISE] if self._keep(item)]:
                began = time.monotonic()
                await self._tokenise_piece(piece)
                self._metrics.tokenise_seconds.observe(time.monotonic() - began)
            self._tokenising.difference_update(items[start : start + _TOKENISE])

    async def _tokenise_piece(self, piece: list[Item]) -> None:
        prompts = [item.prompt for item in piece]
        try:
            rows = await asyncio.get_running_loop().run_in_executor(
                self._tokenisers, self._encoder.tokenize, prompts
            )
        except Exception as error:
            if len(piece) > 1:
                # Others may wait for the prompts that came with a bad one.
                logger.warning("tokenising %d prompts failed; doing it one by one", len(piece))
                for item in piece:
                    await self._tokenise_piece([item])
            else:
                logger.exception("the tokeniser failed on a prompt")
                self._resolve(piece[0], error)
            return
        now = time.monotonic()
        for item, tokens in zip(piece, rows, strict=True):
            item.tokens, item.prompt, item.tokenised = tokens, "", now
            (self._background if item.background else self._urgent).push(item)
        self._arrived.set()

    async def _dispatch(self) -> None:
        """Run one batch after the other for as long as there is work."""
        while True:
            batch = self._next_batch()
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            started = time.monotonic()
            for item in batch:
                item.began = started
                self._metrics.prompt_queue_seconds.observe(started - item.asked)
            tokens = self._running = sum(len(item.tokens) for item in batch)
            await self._run(batch)
            self._running = 0
            ended = time.monotonic()
            for item in batch:
                item.ended = ended
            self._metrics.inference_seconds.observe(ended - started)
            self._metrics.batch_prompts.observe(len(batch))
            self._metrics.batch_tokens.observe(tokens)
            self._pace.record(len(batch), tokens, ended - started)

    async def _run(self, batch: Sequence[Item]) -> None:
        tokens = [item.tokens for item in batch]
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(
                self._device, self._encoder.embed, tokens
            )
        except Exception as error:
            if len(batch) > 1:
                # One prompt must not fail the calls it shares a batch with.
                logger.warning("a batch of %d failed; running it one by one", len(batch))
                for item in batch:
                    await self._run([item])
            else:
                logger.exception("the backbone failed on a prompt")
                self._resolve(batch[0], error)
            return
        for item, vector in zip(batch, vectors, strict=True):
            self._resolve(item, vector)

    def _next_batch(self) -> Sequence[Item]:
        """The next batch, of background items only when nothing else waits."""
        for queue, background in ((self._urgent, False), (self._background, True)):
            ahead: list[Item] = []
            tokens = 0
            while queue and tokens < self._form.look_ahead:
                item = queue.pop()
                # An overtaken item has been computed, or is in the other queue as well.
                if item.background == background and self._keep(item):
                    ahead.append(item)
                    tokens += len(item.tokens)
            if ahead:
                batch = self._form.choose(ahead)
                taken = {item.digest for item in batch}
                for item in ahead:
                    if item.digest not in taken:
                        queue.push(item)
                return batch
        return []

    def _keep(self, item: Item) -> bool:
        """Whether to go on with an item; forgets one that nobody wants."""
        if item.wanted:
            return True
        if self._items.get(item.digest) is item:
            del self._items[item.digest]
            item.vector.cancel()
            self._metrics.dropped_prompts.inc()
        return False

    def _resolve(self, item: Item, result: "Features | BaseException") -> None:
        del self._items[item.digest]
        if item.vector.done():
            return
        if isinstance(result, BaseException):
            item.vector.set_exception(result)
            # Seen here, whether or not a caller still waits for it.
            item.vector.exception()
        else:
            item.vector.set_result(result)


def _trace(asked: float, items: Sequence[Item]) -> None:
    """Tell the trace of a call what it waited for, in three spans that follow each other."""
    tokenised = max(asked, *(item.tokenised for item in items))
    began = max(tokenised, min(item.began for item in items))
    record("tokenise", asked, tokenised, prompts=len(items))
    record("queue", tokenised, began)
    record("inference", began, max(began, *(item.ended for item in items)))
