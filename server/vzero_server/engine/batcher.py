"""The queue in front of the backbone: prompts gather while a batch runs."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vzero_server.engine.errors import OverloadedError

log = logging.getLogger(__name__)

Vector = npt.NDArray[np.float16]

# Prompts tokenised in one go: little enough that the first batch can start early.
_TOKENISE = 256
# Batches' worth of prompts that are sorted by length together.
_LOOK_AHEAD = 4


class Encoder(Protocol):
    """What the batcher needs; see ``vzero_server.model.prompt_encoder``."""

    def tokenize(self, prompts: Sequence[str]) -> Sequence[Sized]:
        """Prompts made ready, each as long as it has tokens; thread-safe."""

    def embed(self, prompts: Sequence[Any]) -> Vector:
        """Feature vectors of one batch of such prompts, ``[len(prompts), columns]``."""


@dataclass(eq=False, slots=True)
class _Item:
    """One distinct prompt on its way through the backbone, and who waits for it."""

    digest: bytes
    prompt: str
    background: bool
    vector: "asyncio.Future[Vector]"
    tokens: Sized = ()
    waiters: int = 0

    @property
    def wanted(self) -> bool:
        """Whether computing it still serves anyone."""
        return not self.vector.done() and (self.waiters > 0 or self.background)


class Batcher:
    """Forms batches of whatever waits and runs them on the one thread of the device.

    No wait is added to fill a batch: while one runs, prompts gather for the next. A
    prompt that is asked for twice is computed once. A prompt whose callers have all
    gone (cancelled, deadline passed) is dropped before it costs anything. Prompts asked
    for in the background run when nobody waits.

    All methods belong to one event loop.
    """

    def __init__(self, encoder: Encoder, *, max_batch_tokens: int, max_queued_prompts: int) -> None:
        """Set up the queue.

        Args:
            encoder: The backbone.
            max_batch_tokens: Most tokens of a batch, padding counted. A single prompt
                may exceed it.
            max_queued_prompts: Most distinct prompts waiting; beyond, callers are refused.
                A call that is larger by itself is let in when nothing waits.
        """
        self._encoder = encoder
        self._max_batch_tokens = max_batch_tokens
        self._max_queued_prompts = max_queued_prompts
        self._items: dict[bytes, _Item] = {}
        self._urgent: deque[_Item] = deque()
        self._background: deque[_Item] = deque()
        self._ready: deque[list[_Item]] = deque()
        self._arrived = asyncio.Event()
        self._prompts_per_second = 100.0
        self._device = ThreadPoolExecutor(1, thread_name_prefix="vzero-engine")
        self._tokenisers = ThreadPoolExecutor(1, thread_name_prefix="vzero-tokenise")
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._dispatch())

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
    ) -> dict[bytes, Vector]:
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
        loop = asyncio.get_running_loop()
        for digest in new:
            self._items[digest] = _Item(digest, prompts[digest], background, loop.create_future())
        if new:
            self._spawn(self._tokenise([self._items[digest] for digest in new]))
        items = [self._items[digest] for digest in prompts]
        for item in items:
            item.waiters += 1
            if item.background and not background:
                self._promote(item)
        try:
            # Leaves the futures alone when cancelled: others may wait for them.
            await asyncio.wait([item.vector for item in items], return_when=asyncio.FIRST_EXCEPTION)
            return {item.digest: item.vector.result() for item in items}
        finally:
            for item in items:
                item.waiters -= 1

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _promote(self, item: _Item) -> None:
        """Let a background item overtake; its old place in the queue is skipped later."""
        item.background = False
        if item.tokens:
            self._urgent.append(item)

    def _retry_after(self) -> float:
        return min(30.0, max(0.1, len(self._items) / self._prompts_per_second))

    async def _tokenise(self, items: list[_Item]) -> None:
        """Tokenise new items and queue them; not cancelled with the caller they came from."""
        loop = asyncio.get_running_loop()
        for start in range(0, len(items), _TOKENISE):
            piece = [item for item in items[start : start + _TOKENISE] if self._keep(item)]
            prompts = [item.prompt for item in piece]
            try:
                rows = await loop.run_in_executor(self._tokenisers, self._encoder.tokenize, prompts)
            except Exception as error:
                log.exception("the tokeniser failed")
                for item in piece:
                    self._resolve(item, error)
                continue
            for item, tokens in zip(piece, rows, strict=True):
                item.tokens, item.prompt = tokens, ""
                (self._background if item.background else self._urgent).append(item)
            self._arrived.set()

    async def _dispatch(self) -> None:
        """Run one batch after the other for as long as there is work."""
        while True:
            batch = self._next_batch()
            if not batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            started = time.perf_counter()
            await self._run(batch)
            rate = len(batch) / (time.perf_counter() - started)
            self._prompts_per_second += 0.1 * (rate - self._prompts_per_second)

    async def _run(self, batch: list[_Item]) -> None:
        tokens = [item.tokens for item in batch]
        try:
            vectors = await asyncio.get_running_loop().run_in_executor(
                self._device, self._encoder.embed, tokens
            )
        except Exception as error:
            if len(batch) > 1:
                # One prompt must not fail the calls it shares a batch with.
                log.warning("a batch of %d failed; running it one by one", len(batch))
                for item in batch:
                    await self._run([item])
            else:
                log.exception("the backbone failed on a prompt")
                self._resolve(batch[0], error)
            return
        for item, vector in zip(batch, vectors, strict=True):
            self._resolve(item, vector)

    def _next_batch(self) -> list[_Item]:
        """The next batch, of background items only when nothing else waits."""
        while self._ready or self._sort(self._urgent) or self._sort(self._background):
            if batch := [item for item in self._ready.popleft() if self._keep(item)]:
                return batch
        return []

    def _sort(self, queue: deque[_Item]) -> bool:
        """Cut a look-ahead of the queue, sorted by length, into batches."""
        taken: dict[bytes, _Item] = {}
        tokens = 0
        # Of the background one batch at a time, so that a caller waits for one at most.
        batches = 1 if queue is self._background else _LOOK_AHEAD
        while queue and tokens < batches * self._max_batch_tokens:
            item = queue.popleft()
            # An overtaken item has been computed, or is in the other queue as well.
            if item.background == (queue is self._background) and self._keep(item):
                taken[item.digest] = item
                tokens += len(item.tokens)
        self._ready.extend(self._cut(sorted(taken.values(), key=lambda item: len(item.tokens))))
        return bool(taken)

    def _cut(self, items: Iterable[_Item]) -> list[list[_Item]]:
        batches: list[list[_Item]] = []
        for item in items:
            width = len(item.tokens)
            if not batches or width * (len(batches[-1]) + 1) > self._max_batch_tokens:
                batches.append([])
            batches[-1].append(item)
        return batches

    def _keep(self, item: _Item) -> bool:
        """Whether to go on with an item; forgets one that nobody wants."""
        if item.wanted:
            return True
        if self._items.get(item.digest) is item:
            del self._items[item.digest]
            item.vector.cancel()
        return False

    def _resolve(self, item: _Item, result: "Vector | BaseException") -> None:
        del self._items[item.digest]
        if item.vector.done():
            return
        if isinstance(result, BaseException):
            item.vector.set_exception(result)
            # Seen here, whether or not a caller still waits for it.
            item.vector.exception()
        else:
            item.vector.set_result(result)
