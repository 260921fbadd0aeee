"""An encoder that a test can hold, and callers that wait until a call is queued or running."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.model.backbone import Backbone
from vzero_server.observability.metrics import Metrics
from vzero_server.storage.records import prompt_digest

POISON = "poison"
# Longer than a test may take: a test that does not release the encoder fails by its time limit.
_HELD_SECONDS = 600.0


@dataclass
class HeldEncoder:
    """The small backbone; embeds only when released, and fails on one prompt.

    Attributes:
        batches: Texts of the embedded batches, in order.
        started: Batches that reached the device.
        release: Lets the device run.
        release_tokeniser: Lets the tokeniser run; set from the beginning.
    """

    backbone: Backbone
    batches: list[list[str]] = field(default_factory=list)
    started: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    release_tokeniser: threading.Event = field(default_factory=threading.Event)
    _texts: dict[tuple[int, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.release_tokeniser.set()

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        self.release_tokeniser.wait(_HELD_SECONDS)
        rows = self.backbone.tokenize(prompts)
        self._texts.update(zip(map(tuple, rows), prompts, strict=True))
        return rows

    def embed(self, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float16]:
        self.started += 1
        self.release.wait(_HELD_SECONDS)
        self.batches.append([self._texts[tuple(row)] for row in tokens])
        if POISON in self.batches[-1]:
            raise ValueError("the model rejects this prompt")
        return self.backbone.embed(tokens).astype(np.float16)

    @property
    def widths(self) -> list[list[int]]:
        """Tokens of each prompt of each batch."""
        return [[len(row) for row in self.backbone.tokenize(batch)] for batch in self.batches]

    @property
    def prompts(self) -> int:
        """Number of embedded prompts."""
        return sum(map(len, self.batches))


@dataclass
class Callers:
    """Callers of a batcher."""

    batcher: EmbeddingBatcher
    encoder: HeldEncoder
    metrics: Metrics

    def embed(self, *texts: str, background: bool = False) -> "asyncio.Task[dict[bytes, Any]]":
        """Start a call for prompts."""
        call = self.batcher.embed(prompts(*texts), background=background)
        return asyncio.create_task(call)

    async def queue(self, *texts: str, background: bool = False) -> "asyncio.Task[Any]":
        """Start a call for at most 256 prompts and wait until they are queued."""
        jobs_before = self._tokeniser_jobs()
        queued_before = len(self.batcher)
        call = self.embed(*texts, background=background)
        await started()
        if len(self.batcher) > queued_before:
            await until(lambda: self._tokeniser_jobs() > jobs_before)
        return call

    async def occupy_device(self) -> "asyncio.Task[Any]":
        """Start a call for one prompt and wait until it is on the device, which is held."""
        call = self.embed("first")
        await until(lambda: self.encoder.started == 1)
        return call

    def queued(self) -> float | None:
        """The metric of queued prompts."""
        return self.metrics.registry.get_sample_value("vzero_queued_prompts")

    def dropped(self) -> float | None:
        """The metric of dropped prompts."""
        return self.metrics.registry.get_sample_value("vzero_dropped_total", {"queue": "embedding"})

    def _tokeniser_jobs(self) -> float:
        # A job is counted once its prompts are queued.
        return self.metrics.registry.get_sample_value("vzero_tokenise_seconds_count") or 0.0


def prompts(*texts: str) -> dict[bytes, str]:
    return {prompt_digest(text): text for text in texts}


async def started() -> None:
    """Run new calls until they wait, and cancelled calls until they end."""
    for _ in range(5):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)
