"""What counts against the limits of the queue: prompts that somebody waits for."""

import asyncio
from typing import Any

import pytest

from tests.engine.embedding.conftest import MakeCallers
from tests.engine.embedding.held_encoder import Callers, HeldEncoder, prompts, started
from vzero_server.engine.embedding.throughput import Throughput
from vzero_server.errors import OverloadedError

TEXT = "a prompt of some length {}"


async def leave(*calls: "asyncio.Task[Any]") -> None:
    """Cancel calls and let them end."""
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_a_full_queue_refuses_at_once(callers: Callers, encoder: HeldEncoder) -> None:
    accepted = await callers.queue(*map(str, range(100)))
    with pytest.raises(OverloadedError):
        await callers.ask("one more")
    # A prompt that is on its way already takes no further place.
    joined = callers.ask("5")
    encoder.release.set()
    await asyncio.gather(accepted, joined)
    await callers.ask("one more")


async def test_a_larger_call_is_let_in_when_nobody_waits(
    callers: Callers, encoder: HeldEncoder
) -> None:
    encoder.release.set()
    vectors = await callers.ask(*map(str, range(150)))
    assert len(vectors) == 150


async def test_calls_are_refused_while_many_prompts_are_due(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    # At first it expects 5,000 tokens a second of the device: 500 make it late.
    callers = make_callers(max_queued_prompts=1000, max_delay=0.1)
    length = len(encoder.tokenize([TEXT.format(100)])[0])
    waiting: list[asyncio.Task[Any]] = []
    while not (waiting and waiting[-1].done()):
        waiting.append(await callers.queue(TEXT.format(100 + len(waiting))))
    refused = waiting.pop().exception()
    assert isinstance(refused, OverloadedError)
    assert refused.retry_after > 0
    assert 0.8 * 500 <= len(waiting) * length <= 1.2 * 500
    # What waits already costs nothing more.
    waiting.append(callers.ask(TEXT.format(105)))
    await started()
    encoder.release.set()
    await asyncio.gather(*waiting)
    await callers.ask("too late")


async def test_prompts_that_have_no_tokens_yet_count_as_well(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    encoder.release.set()
    encoder.release_tokeniser.clear()
    # At first it expects 100 prompts a second.
    callers = make_callers(max_delay=0.1)
    calls = [callers.ask(f"prompt {i}") for i in range(60)]
    await started()
    encoder.release_tokeniser.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [isinstance(result, OverloadedError) for result in results]
    assert refused.index(True) in range(9, 13)
    assert all(refused[refused.index(True) :])


async def test_a_large_call_makes_nobody_late(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(max_queued_prompts=1000, max_delay=0.3)
    # Expected to take nine seconds, of which little is due when the small calls arrive.
    large = callers.ask(*(f"large {i}" for i in range(900)))
    small = [callers.ask(f"small {number}") for number in range(20)]
    await started()
    encoder.release.set()
    assert [len(vectors) for vectors in await asyncio.gather(*small)] == [1] * 20
    assert len(await large) == 900


async def test_as_many_small_calls_are_refused(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(max_queued_prompts=1000, max_delay=0.3)
    small = [callers.ask(f"small {number}") for number in range(900)]
    await started()
    encoder.release.set()
    results = await asyncio.gather(*small, return_exceptions=True)
    assert isinstance(results[-1], OverloadedError)


# Callers that left.


async def test_work_of_callers_that_left_is_dropped(callers: Callers, encoder: HeldEncoder) -> None:
    first = await callers.occupy_device()
    leaving = await callers.queue("shared", "dropped")
    staying = await callers.queue("shared")
    late = asyncio.create_task(
        asyncio.wait_for(callers.batcher.embed(prompts("expired")), timeout=0.05)
    )
    await leave(leaving)
    with pytest.raises(TimeoutError):
        await late
    encoder.release.set()
    await asyncio.gather(first, staying)
    assert encoder.batches == [["first"], ["shared"]]
    assert len(callers.batcher) == 0


async def test_a_dropped_prompt_can_be_asked_for_again(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    await leave(await callers.queue("again"))
    again = await callers.queue("again")
    encoder.release.set()
    await asyncio.gather(first, again)
    assert encoder.prompts == 2


async def test_prompts_of_a_caller_that_left_take_no_place(
    callers: Callers, encoder: HeldEncoder
) -> None:
    """While the device is busy, so that the queue does not move."""
    first = await callers.occupy_device()
    leaving = await callers.queue(*(f"leaving {i}" for i in range(99)))
    with pytest.raises(OverloadedError) as refused:
        await callers.ask("one more")
    assert refused.value.retry_after == pytest.approx(1.0)
    assert callers.gauge() == 100
    await leave(leaving)
    assert len(callers.batcher) == callers.gauge() == 1
    assert callers.dropped() == 99
    accepted = await callers.queue(*(f"staying {i}" for i in range(99)))
    encoder.release.set()
    await asyncio.gather(first, accepted)
    assert encoder.prompts == 100


async def test_a_refusal_does_not_count_who_left(callers: Callers, encoder: HeldEncoder) -> None:
    first = await callers.occupy_device()
    staying = await callers.queue(*(f"staying {i}" for i in range(29)))
    await leave(await callers.queue(*(f"leaving {i}" for i in range(70))))
    with pytest.raises(OverloadedError) as refused:
        await callers.ask(*(f"too many {i}" for i in range(71)))
    # For 30 prompts at 100 a second.
    assert refused.value.retry_after == pytest.approx(0.3)
    encoder.release.set()
    await asyncio.gather(first, staying)


async def test_prompts_of_callers_that_left_delay_nobody(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    """The estimate of the delay is of the prompts that will be computed."""
    callers = make_callers(max_queued_prompts=1000, max_delay=0.1)
    first = await callers.occupy_device()
    leaving = []
    while not (leaving and leaving[-1].done()):
        leaving.append(await callers.queue(TEXT.format(100 + len(leaving))))
    assert isinstance(leaving.pop().exception(), OverloadedError)
    await leave(*leaving)
    accepted = await callers.queue("accepted")
    assert not accepted.done()
    encoder.release.set()
    await asyncio.gather(first, accepted)
    assert encoder.batches == [["first"], ["accepted"]]


async def test_prompts_that_left_before_they_had_tokens_delay_nobody(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    encoder.release.set()
    encoder.release_tokeniser.clear()
    callers = make_callers(max_delay=0.1)
    leaving = [callers.ask(f"leaving {i}") for i in range(12)]
    await started()
    assert isinstance(leaving.pop().exception(), OverloadedError)
    await leave(*leaving)
    assert len(callers.batcher) == callers.gauge() == 0
    accepted = [callers.ask(f"accepted {i}") for i in range(5)]
    await started()
    encoder.release_tokeniser.set()
    await asyncio.gather(*accepted)
    assert encoder.prompts == 5


async def test_a_prompt_asked_for_again_while_it_is_tokenised(
    callers: Callers, encoder: HeldEncoder
) -> None:
    encoder.release.set()
    encoder.release_tokeniser.clear()
    leaving = callers.ask("again")
    await started()
    await leave(leaving)
    again = callers.ask("again")
    await started()
    encoder.release_tokeniser.set()
    assert len(await again) == 1
    assert encoder.batches == [["again"]]
    assert len(callers.batcher) == 0


async def test_a_prompt_on_the_device_finishes_and_can_be_joined(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    await leave(first)
    assert len(callers.batcher) == callers.gauge() == 0
    # The queue is empty: a call larger than it is let in.
    large = await callers.queue(*(f"large {i}" for i in range(150)))
    await leave(large)
    again = callers.ask("first")
    await started()
    assert len(callers.batcher) == 1
    encoder.release.set()
    await again
    assert encoder.batches == [["first"]]
    assert len(callers.batcher) == 0


async def test_a_prompt_that_only_background_work_wants_goes_behind_others(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    background = await callers.queue("wanted later", background=True)
    leaving = await callers.queue("wanted later")
    staying = await callers.queue("x" * 40)
    await leave(leaving)
    encoder.release.set()
    await asyncio.gather(first, background, staying)
    assert encoder.batches == [["first"], ["x" * 40], ["wanted later"]]


async def test_a_piece_of_a_large_call_that_left_is_not_tokenised(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(max_queued_prompts=1000)
    encoder.release_tokeniser.clear()
    leaving = callers.ask(*(f"leaving {i}" for i in range(900)))
    await started()
    await leave(leaving)
    staying = callers.ask("staying")
    await started()
    encoder.release_tokeniser.set()
    encoder.release.set()
    await staying
    assert encoder.batches == [["staying"]]
    # The first piece of the large call, which had begun, and the call that stayed.
    assert callers.metrics.registry.get_sample_value("vzero_tokenise_seconds_count") == 2


def test_throughput_is_one_of_tokens() -> None:
    throughput = Throughput()
    for _ in range(200):
        throughput.record(prompts=10, tokens=100, seconds=0.1)
    assert throughput.prompts_per_second == pytest.approx(100, rel=1e-2)
    # A prompt that is ten times as long takes ten times as long.
    assert throughput.seconds(tokens=100, prompts=0) == pytest.approx(0.1, rel=1e-2)
    assert throughput.seconds(tokens=0, prompts=10) == pytest.approx(0.1, rel=1e-2)
