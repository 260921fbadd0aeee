import asyncio

import numpy as np
import pytest

from tests.engine.embedding.conftest import MakeCallers
from tests.engine.embedding.held_encoder import POISON, Callers, HeldEncoder, started
from vzero_server.engine.embedding.batch_budget import PackedBudget, PaddedBudget
from vzero_server.errors import OverloadedError
from vzero_server.storage.records import prompt_digest


async def test_vectors_are_those_of_the_backbone(callers: Callers, encoder: HeldEncoder) -> None:
    encoder.release.set()
    texts = [f"prompt {'x' * (i % 20)} {i}" for i in range(60)]
    vectors = await callers.ask(*texts)
    for text in texts:
        expected = encoder.backbone.embed(encoder.backbone.tokenize([text]))[0]
        np.testing.assert_allclose(vectors[prompt_digest(text)], expected, atol=2e-3)


async def test_batches_keep_the_token_budget_and_like_lengths(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    texts = [("a" if i % 2 else "b" * 20) + f"{i:02}" for i in range(20)]
    rest = await callers.queue(*texts)
    encoder.release.set()
    await asyncio.gather(first, rest)
    assert all(len(batch) * max(batch) <= 64 for batch in encoder.widths)
    assert all(len(set(batch)) == 1 for batch in encoder.widths)
    assert encoder.prompts == 21


async def test_a_long_prompt_pads_no_short_ones(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(PaddedBudget(64, max_padding=8))
    first = await callers.occupy_device()
    rest = await callers.queue("a", "b", "c", "d c", "e " * 8)
    encoder.release.set()
    await asyncio.gather(first, rest)
    paddings = [len(batch) * max(batch) - sum(batch) for batch in encoder.widths[1:]]
    assert len(paddings) == 2
    assert max(paddings) <= 8


async def test_without_padding_batches_follow_the_order_of_arrival(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(PackedBudget(64))
    first = await callers.occupy_device()
    texts = [letter * (1 + 24 * (place % 2)) for place, letter in enumerate("abcdefgh")]
    rest = [await callers.queue(text) for text in texts]
    encoder.release.set()
    await asyncio.gather(first, *rest)
    assert encoder.widths[1:] == [[3, 27, 3, 27, 3], [27, 3, 27]]
    assert encoder.batches[1:] == [texts[:5], texts[5:]]


async def test_a_prompt_longer_than_a_batch_goes_alone(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(PackedBudget(16))
    first = await callers.occupy_device()
    rest = [await callers.queue(text) for text in ("a" * 20, "b")]
    encoder.release.set()
    await asyncio.gather(first, *rest)
    assert encoder.widths[1:] == [[22], [3]]


async def test_a_prompt_asked_for_twice_is_computed_once(
    callers: Callers, encoder: HeldEncoder
) -> None:
    calls = [await callers.queue("same", f"own {i}") for i in range(5)]
    encoder.release.set()
    await asyncio.gather(*calls)
    assert encoder.prompts == 6


async def test_one_bad_prompt_fails_its_own_call_only(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    good = await callers.queue("good")
    bad = await callers.queue(POISON)
    encoder.release.set()
    with pytest.raises(ValueError, match="cannot take"):
        await bad
    assert len(await good) == 1
    await first
    assert len(callers.batcher) == 0


async def test_background_work_waits_and_can_be_overtaken(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    texts = [f"{i:028}" for i in range(6)]
    slow = await callers.queue(*texts, background=True)
    promoted = await callers.queue(texts[5])
    urgent = await callers.queue("urgent")
    encoder.release.set()
    await asyncio.gather(first, promoted, urgent, slow)
    order = [text for batch in encoder.batches for text in batch]
    # The overtaken prompt was not computed a second time.
    assert order[:3] in (["first", texts[5], "urgent"], ["first", "urgent", texts[5]])
    assert sorted(order[3:]) == texts[:5]


async def test_a_lone_prompt_does_not_wait_for_a_large_call(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    large = await callers.queue(*(f"many {i:02}" for i in range(90)))
    lone = await callers.queue("a lone prompt")
    encoder.release.set()
    await asyncio.gather(first, large, lone)
    # Its batch was one of the first of the fifteen or more that the large call takes.
    position = next(i for i, batch in enumerate(encoder.batches) if "a lone prompt" in batch)
    assert position <= 5
    assert len(encoder.batches) > 12


async def test_a_large_call_is_not_starved_by_lone_prompts(
    callers: Callers, encoder: HeldEncoder
) -> None:
    """A steady stream of prompts that came later does not keep earlier ones from their turn."""
    encoder.release.set()
    large = callers.ask(*(f"many {i:02}" for i in range(60)))
    lone = 0
    while not large.done():
        await callers.ask(f"lone prompt {lone}")
        lone += 1
    assert lone < 120


async def test_a_closed_batcher_cancels_its_callers(callers: Callers, encoder: HeldEncoder) -> None:
    first = await callers.occupy_device()
    second = await callers.queue("second")
    encoder.release.set()
    await callers.batcher.close()
    await started()
    assert first.cancelled() or first.done()
    assert second.cancelled()


async def test_a_refusal_says_when_to_try_again(callers: Callers, encoder: HeldEncoder) -> None:
    call = await callers.queue(*map(str, range(100)))
    with pytest.raises(OverloadedError) as refused:
        await callers.ask("one more")
    assert 0.1 <= refused.value.retry_after <= 30
    encoder.release.set()
    await call
