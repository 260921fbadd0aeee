"""How the queue in front of the backbone forms batches."""

import asyncio

import numpy as np
import pytest

from tests.engine.embedding.conftest import MakeCallers
from tests.engine.embedding.held_encoder import POISON, Callers, HeldEncoder, started
from vzero_server.engine.embedding.batch_budget import PackedBudget, PaddedBudget
from vzero_server.errors import OverloadedError
from vzero_server.storage.records import prompt_digest


async def test_vectors_equal_those_of_the_backbone(callers: Callers, encoder: HeldEncoder) -> None:
    encoder.release.set()
    texts = [f"prompt {'x' * (i % 20)} {i}" for i in range(60)]
    vectors = await callers.embed(*texts)
    for text in texts:
        expected = encoder.backbone.embed(encoder.backbone.tokenize([text]))[0]
        np.testing.assert_allclose(vectors[prompt_digest(text)], expected, atol=2e-3)


async def test_batches_keep_the_token_budget_and_hold_equal_lengths(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    texts = [("a" if i % 2 else "b" * 20) + f"{i:02}" for i in range(20)]
    queued = await callers.queue(*texts)
    encoder.release.set()
    await asyncio.gather(first, queued)
    assert all(len(batch) * max(batch) <= 64 for batch in encoder.widths)
    assert all(len(set(batch)) == 1 for batch in encoder.widths)
    assert encoder.prompts == 21


async def test_a_long_prompt_does_not_pad_short_ones(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(PaddedBudget(64, max_padding=8))
    first = await callers.occupy_device()
    queued = await callers.queue("a", "b", "c", "d c", "e " * 8)
    encoder.release.set()
    await asyncio.gather(first, queued)
    paddings = [len(batch) * max(batch) - sum(batch) for batch in encoder.widths[1:]]
    assert len(paddings) == 2
    assert max(paddings) <= 8


async def test_without_padding_batches_follow_the_order_of_arrival(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(PackedBudget(64))
    first = await callers.occupy_device()
    texts = [letter * (1 + 24 * (place % 2)) for place, letter in enumerate("abcdefgh")]
    queued = [await callers.queue(text) for text in texts]
    encoder.release.set()
    await asyncio.gather(first, *queued)
    assert encoder.widths[1:] == [[3, 27, 3, 27, 3], [27, 3, 27]]
    assert encoder.batches[1:] == [texts[:5], texts[5:]]


async def test_a_prompt_longer_than_the_budget_is_a_batch_of_its_own(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(PackedBudget(16))
    first = await callers.occupy_device()
    queued = [await callers.queue(text) for text in ("a" * 20, "b")]
    encoder.release.set()
    await asyncio.gather(first, *queued)
    assert encoder.widths[1:] == [[22], [3]]


async def test_a_prompt_of_several_calls_is_embedded_once(
    callers: Callers, encoder: HeldEncoder
) -> None:
    calls = [await callers.queue("same", f"different {i}") for i in range(5)]
    encoder.release.set()
    await asyncio.gather(*calls)
    assert encoder.prompts == 6


async def test_a_failing_prompt_fails_only_its_call(callers: Callers, encoder: HeldEncoder) -> None:
    first = await callers.occupy_device()
    good = await callers.queue("good")
    bad = await callers.queue(POISON)
    encoder.release.set()
    with pytest.raises(ValueError, match="rejects this prompt"):
        await bad
    assert len(await good) == 1
    await first
    assert len(callers.batcher) == 0


async def test_background_prompts_run_last_unless_a_call_needs_them(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    texts = [f"{i:028}" for i in range(6)]
    background = await callers.queue(*texts, background=True)
    promoted = await callers.queue(texts[5])
    urgent = await callers.queue("urgent")
    encoder.release.set()
    await asyncio.gather(first, promoted, urgent, background)
    order = [text for batch in encoder.batches for text in batch]
    # The promoted prompt was not embedded a second time.
    assert order[:3] in (["first", texts[5], "urgent"], ["first", "urgent", texts[5]])
    assert sorted(order[3:]) == texts[:5]


async def test_a_single_prompt_does_not_wait_for_a_large_call(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    large = await callers.queue(*(f"many {i:02}" for i in range(90)))
    single = await callers.queue("a single prompt")
    encoder.release.set()
    await asyncio.gather(first, large, single)
    # Its batch was one of the first; the large call alone takes fifteen or more.
    position = next(i for i, batch in enumerate(encoder.batches) if "a single prompt" in batch)
    assert position <= 5
    assert len(encoder.batches) > 12


async def test_a_large_call_is_not_starved_by_single_prompts(
    callers: Callers, encoder: HeldEncoder
) -> None:
    """While single prompts keep arriving."""
    encoder.release.set()
    large = callers.embed(*(f"many {i:02}" for i in range(60)))
    singles = 0
    while not large.done():
        await callers.embed(f"single prompt {singles}")
        singles += 1
    assert singles < 120


async def test_closing_the_batcher_cancels_its_callers(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    second = await callers.queue("second")
    encoder.release.set()
    await callers.batcher.close()
    await started()
    assert first.cancelled() or first.done()
    assert second.cancelled()


async def test_a_rejected_call_is_given_a_retry_delay(
    callers: Callers, encoder: HeldEncoder
) -> None:
    call = await callers.queue(*map(str, range(100)))
    with pytest.raises(OverloadedError) as raised:
        await callers.embed("one more")
    assert 0.1 <= raised.value.retry_after <= 30
    encoder.release.set()
    await call
