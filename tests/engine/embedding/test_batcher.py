import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio

from vzero_server.engine.embedding.batch_forms import Packed, Padded
from vzero_server.engine.embedding.batcher import EmbeddingBatcher
from vzero_server.engine.embedding.prompt_queue import Pace
from vzero_server.errors import OverloadedError
from vzero_server.model.backbone import Backbone
from vzero_server.storage.records import prompt_digest

POISON = "poison"


@dataclass
class Monitored:
    """The real small backbone; remembers its batches, can be held, and fails on one prompt."""

    backbone: Backbone
    batches: list[list[int]] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        return self.backbone.tokenize(prompts)

    def embed(self, tokens: Sequence[Sequence[int]]) -> npt.NDArray[np.float16]:
        self.release.wait(10)
        self.batches.append([len(row) for row in tokens])
        if any(list(row) == self.backbone.tokenize([POISON])[0] for row in tokens):
            raise ValueError("a prompt the model cannot take")
        return self.backbone.embed(tokens).astype(np.float16)

    @property
    def prompts(self) -> int:
        return sum(map(len, self.batches))


@pytest.fixture
def monitored(tiny_backbone: Backbone) -> Monitored:
    return Monitored(tiny_backbone)


@pytest_asyncio.fixture
async def batcher(monitored: Monitored) -> AsyncIterator[EmbeddingBatcher]:
    made = EmbeddingBatcher(monitored, Padded(64), max_queued_prompts=100)
    yield made
    monitored.release.set()
    await made.close()


def prompts(*texts: str) -> dict[bytes, str]:
    return {prompt_digest(text): text for text in texts}


async def settle() -> None:
    """Let prompts reach the queue, and the first of them the device."""
    await asyncio.sleep(0.1)


async def test_vectors_are_those_of_the_backbone(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    monitored.release.set()
    texts = [f"prompt {'x' * (i % 20)} {i}" for i in range(60)]
    found = await batcher.embed(prompts(*texts))
    for text in texts:
        expected = monitored.backbone.embed(monitored.backbone.tokenize([text]))[0]
        np.testing.assert_allclose(found[prompt_digest(text)], expected, atol=2e-3)


async def test_batches_keep_the_token_budget_and_like_lengths(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    texts = [("a" if i % 2 else "b" * 20) + f"{i:02}" for i in range(20)]
    rest = asyncio.create_task(batcher.embed(prompts(*texts)))
    await settle()
    monitored.release.set()
    await asyncio.gather(held, rest)
    assert all(len(batch) * max(batch) <= 64 for batch in monitored.batches)
    assert all(len(set(batch)) == 1 for batch in monitored.batches)
    assert monitored.prompts == 21


async def test_a_long_prompt_pads_no_short_ones(monitored: Monitored) -> None:
    batcher = EmbeddingBatcher(monitored, Padded(64, max_padding=8), max_queued_prompts=100)
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    rest = asyncio.create_task(batcher.embed(prompts("a", "b", "c", "d c", "e " * 8)))
    await settle()
    monitored.release.set()
    await asyncio.gather(held, rest)
    paddings = [len(batch) * max(batch) - sum(batch) for batch in monitored.batches[1:]]
    assert len(paddings) == 2
    assert max(paddings) <= 8
    await batcher.close()


async def test_without_padding_batches_follow_the_order_of_arrival(monitored: Monitored) -> None:
    batcher = EmbeddingBatcher(monitored, Packed(64), max_queued_prompts=100)
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    texts = [letter * (1 + 24 * (place % 2)) for place, letter in enumerate("abcdefgh")]
    rest = [asyncio.create_task(batcher.embed(prompts(text))) for text in texts]
    await settle()
    monitored.release.set()
    await asyncio.gather(held, *rest)
    assert monitored.batches[1:] == [[3, 27, 3, 27, 3], [27, 3, 27]]
    await batcher.close()


async def test_a_prompt_longer_than_a_batch_goes_alone(monitored: Monitored) -> None:
    batcher = EmbeddingBatcher(monitored, Packed(16), max_queued_prompts=100)
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    rest = [asyncio.create_task(batcher.embed(prompts(text))) for text in ("a" * 20, "b")]
    await settle()
    monitored.release.set()
    await asyncio.gather(held, *rest)
    assert monitored.batches[1:] == [[22], [3]]
    await batcher.close()


async def test_a_prompt_asked_for_twice_is_computed_once(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    calls = [asyncio.create_task(batcher.embed(prompts("same", f"own {i}"))) for i in range(5)]
    await settle()
    monitored.release.set()
    await asyncio.gather(*calls)
    assert monitored.prompts == 6


async def test_work_of_callers_that_left_is_dropped(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    leaving = asyncio.create_task(batcher.embed(prompts("shared", "dropped")))
    staying = asyncio.create_task(batcher.embed(prompts("shared")))
    late = asyncio.create_task(asyncio.wait_for(batcher.embed(prompts("expired")), 0.05))
    await settle()
    leaving.cancel()
    with pytest.raises(TimeoutError):
        await late
    monitored.release.set()
    await asyncio.gather(held, staying)
    assert monitored.prompts == 2
    assert len(batcher) == 0


async def test_a_dropped_prompt_can_be_asked_for_again(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    leaving = asyncio.create_task(batcher.embed(prompts("again")))
    await settle()
    leaving.cancel()
    again = asyncio.create_task(batcher.embed(prompts("again")))
    await settle()
    monitored.release.set()
    await asyncio.gather(held, again)
    assert monitored.prompts == 2


async def test_a_full_queue_refuses_at_once(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    accepted = asyncio.create_task(batcher.embed(prompts(*map(str, range(100)))))
    await settle()
    with pytest.raises(OverloadedError) as refused:
        await batcher.embed(prompts("one more"))
    assert 0.1 <= refused.value.retry_after <= 30
    # What is on its way already needs no further room.
    joined = asyncio.create_task(batcher.embed(prompts("5")))
    monitored.release.set()
    await asyncio.gather(accepted, joined)
    await batcher.embed(prompts("one more"))


async def test_calls_are_refused_while_many_prompts_are_due(monitored: Monitored) -> None:
    # At first it expects 5,000 tokens a second of the device: 500 make it late.
    batcher = EmbeddingBatcher(monitored, Padded(64), max_queued_prompts=1000, max_delay=0.1)
    text = "a prompt of some length {}"
    length = len(monitored.tokenize([text.format(100)])[0])
    waiting: list[asyncio.Task[Any]] = []
    while not (waiting and waiting[-1].done()):
        waiting.append(asyncio.create_task(batcher.embed(prompts(text.format(100 + len(waiting))))))
        await asyncio.sleep(0.01)
    refused = waiting.pop().exception()
    assert isinstance(refused, OverloadedError)
    assert refused.retry_after > 0
    assert 0.8 * 500 <= len(waiting) * length <= 1.2 * 500
    # What waits already costs nothing more.
    waiting.append(asyncio.create_task(batcher.embed(prompts(text.format(105)))))
    await settle()
    monitored.release.set()
    await asyncio.gather(*waiting)
    await batcher.embed(prompts("too late"))
    await batcher.close()


async def test_prompts_that_have_no_tokens_yet_count_as_well(monitored: Monitored) -> None:
    held = threading.Event()

    class Slow(Monitored):
        def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
            held.wait(10)
            return super().tokenize(prompts)

    monitored.release.set()
    slow = Slow(monitored.backbone, release=monitored.release)
    # At first it expects 100 prompts a second.
    batcher = EmbeddingBatcher(slow, Padded(64), max_queued_prompts=100, max_delay=0.1)
    calls = [asyncio.create_task(batcher.embed(prompts(f"prompt {i}"))) for i in range(60)]
    await settle()
    held.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    refused = [isinstance(one, OverloadedError) for one in found]
    assert refused.index(True) in range(9, 13)
    assert all(refused[refused.index(True) :])
    await batcher.close()


def test_the_pace_is_one_of_tokens() -> None:
    pace = Pace()
    for _ in range(200):
        pace.record(prompts=10, tokens=100, seconds=0.1)
    assert pace.prompts_per_second == pytest.approx(100, rel=1e-2)
    # A prompt that is ten times as long takes ten times as long.
    assert pace.seconds(tokens=100, prompts=0) == pytest.approx(0.1, rel=1e-2)
    assert pace.seconds(tokens=0, prompts=10) == pytest.approx(0.1, rel=1e-2)


async def test_a_large_call_makes_nobody_late(monitored: Monitored) -> None:
    batcher = EmbeddingBatcher(monitored, Padded(64), max_queued_prompts=1000, max_delay=0.3)
    large = asyncio.create_task(batcher.embed(prompts(*(f"large {i}" for i in range(900)))))
    await settle()
    monitored.release.set()
    for number in range(20):
        await batcher.embed(prompts(f"small {number}"))
    await large
    await batcher.close()


async def test_one_bad_prompt_fails_its_own_call_only(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    good = asyncio.create_task(batcher.embed(prompts("good")))
    bad = asyncio.create_task(batcher.embed(prompts(POISON)))
    await settle()
    monitored.release.set()
    with pytest.raises(ValueError, match="cannot take"):
        await bad
    assert len(await good) == 1
    await held
    assert len(batcher) == 0


async def test_background_work_waits_and_can_be_overtaken(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    slow = asyncio.create_task(
        batcher.embed(prompts(*(f"{i:028}" for i in range(6))), background=True)
    )
    await settle()
    promoted = asyncio.create_task(batcher.embed(prompts(f"{5:028}")))
    urgent = asyncio.create_task(batcher.embed(prompts("urgent")))
    await settle()
    monitored.release.set()
    await asyncio.gather(promoted, urgent)
    assert not slow.done()
    await asyncio.gather(held, slow)
    # The overtaken prompt was not computed a second time.
    assert monitored.prompts == 8


async def test_a_lone_prompt_does_not_wait_for_a_large_call(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    held = asyncio.create_task(batcher.embed(prompts("first")))
    await settle()
    large = asyncio.create_task(batcher.embed(prompts(*(f"many {i:02}" for i in range(90)))))
    await settle()
    lone = asyncio.create_task(batcher.embed(prompts("a lone prompt")))
    await settle()
    monitored.release.set()
    await lone
    # Its batch was one of the first of the fifteen or more that the large call takes.
    assert len(monitored.batches) <= 6
    await asyncio.gather(held, large)
    assert len(monitored.batches) > 12


async def test_a_large_call_is_not_starved_by_lone_prompts(
    batcher: EmbeddingBatcher, monitored: Monitored
) -> None:
    """A steady stream of prompts that came later does not keep earlier ones from their turn."""
    monitored.release.set()
    large = asyncio.create_task(batcher.embed(prompts(*(f"many {i:02}" for i in range(60)))))
    lone = 0
    while not large.done():
        await batcher.embed(prompts(f"lone prompt {lone}"))
        lone += 1
    assert lone < 120
