"""Which prompts count against the limits of the queue: those that a caller waits for."""

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


async def test_a_full_queue_rejects_further_prompts(callers: Callers, encoder: HeldEncoder) -> None:
    accepted = await callers.queue(*map(str, range(100)))
    with pytest.raises(OverloadedError):
        await callers.embed("one more")
    # A call for a queued prompt joins it.
    joined = callers.embed("5")
    encoder.release.set()
    await asyncio.gather(accepted, joined)
    await callers.embed("one more")


async def test_an_empty_queue_accepts_a_call_larger_than_its_limit(
    callers: Callers, encoder: HeldEncoder
) -> None:
    encoder.release.set()
    vectors = await callers.embed(*map(str, range(150)))
    assert len(vectors) == 150


async def test_calls_are_rejected_while_due_prompts_take_longer_than_max_delay(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    # The initial estimate is 5,000 tokens a second: 500 tokens take 0.1 s.
    callers = make_callers(max_queued_prompts=1000, max_delay=0.1)
    length = len(encoder.tokenize([TEXT.format(100)])[0])
    waiting: list[asyncio.Task[Any]] = []
    while not (waiting and waiting[-1].done()):
        waiting.append(await callers.queue(TEXT.format(100 + len(waiting))))
    error = waiting.pop().exception()
    assert isinstance(error, OverloadedError)
    assert error.retry_after > 0
    assert 0.8 * 500 <= len(waiting) * length <= 1.2 * 500
    # A call for a queued prompt adds no delay.
    waiting.append(callers.embed(TEXT.format(105)))
    await started()
    encoder.release.set()
    await asyncio.gather(*waiting)
    await callers.embed("accepted again")


async def test_prompts_that_are_not_yet_tokenised_count_by_number(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    encoder.release.set()
    encoder.release_tokeniser.clear()
    # The initial estimate is 100 prompts a second.
    callers = make_callers(max_delay=0.1)
    calls = [callers.embed(f"prompt {i}") for i in range(60)]
    await started()
    encoder.release_tokeniser.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    rejected = [isinstance(result, OverloadedError) for result in results]
    assert rejected.index(True) in range(9, 13)
    assert all(rejected[rejected.index(True) :])


async def test_a_large_call_does_not_make_small_calls_exceed_max_delay(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(max_queued_prompts=1000, max_delay=0.3)
    # It is expected to take nine seconds, but little of it is due when the small calls arrive.
    large = callers.embed(*(f"large {i}" for i in range(900)))
    small = [callers.embed(f"small {number}") for number in range(20)]
    await started()
    encoder.release.set()
    assert [len(vectors) for vectors in await asyncio.gather(*small)] == [1] * 20
    assert len(await large) == 900


async def test_as_many_prompts_in_small_calls_are_rejected(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(max_queued_prompts=1000, max_delay=0.3)
    small = [callers.embed(f"small {number}") for number in range(900)]
    await started()
    encoder.release.set()
    results = await asyncio.gather(*small, return_exceptions=True)
    assert isinstance(results[-1], OverloadedError)


# Callers that leave.


async def test_prompts_without_callers_are_dropped(callers: Callers, encoder: HeldEncoder) -> None:
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


async def test_a_dropped_prompt_can_be_queued_again(callers: Callers, encoder: HeldEncoder) -> None:
    first = await callers.occupy_device()
    await leave(await callers.queue("again"))
    again = await callers.queue("again")
    encoder.release.set()
    await asyncio.gather(first, again)
    assert encoder.prompts == 2


async def test_dropped_prompts_do_not_count_against_the_limit(
    callers: Callers, encoder: HeldEncoder
) -> None:
    """The device is busy, so that the queue does not advance."""
    first = await callers.occupy_device()
    leaving = await callers.queue(*(f"leaving {i}" for i in range(99)))
    with pytest.raises(OverloadedError) as raised:
        await callers.embed("one more")
    assert raised.value.retry_after == pytest.approx(1.0)
    assert callers.queued() == 100
    await leave(leaving)
    assert len(callers.batcher) == callers.queued() == 1
    assert callers.dropped() == 99
    accepted = await callers.queue(*(f"staying {i}" for i in range(99)))
    encoder.release.set()
    await asyncio.gather(first, accepted)
    assert encoder.prompts == 100


async def test_retry_delays_do_not_count_dropped_prompts(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    staying = await callers.queue(*(f"staying {i}" for i in range(29)))
    await leave(await callers.queue(*(f"leaving {i}" for i in range(70))))
    with pytest.raises(OverloadedError) as raised:
        await callers.embed(*(f"too many {i}" for i in range(71)))
    # For 30 prompts at 100 a second.
    assert raised.value.retry_after == pytest.approx(0.3)
    encoder.release.set()
    await asyncio.gather(first, staying)


async def test_dropped_prompts_do_not_count_against_max_delay(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    """The estimated delay is that of the prompts that will be embedded."""
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


async def test_prompts_dropped_before_tokenisation_do_not_count_against_max_delay(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    encoder.release.set()
    encoder.release_tokeniser.clear()
    callers = make_callers(max_delay=0.1)
    leaving = [callers.embed(f"leaving {i}") for i in range(12)]
    await started()
    assert isinstance(leaving.pop().exception(), OverloadedError)
    await leave(*leaving)
    assert len(callers.batcher) == callers.queued() == 0
    accepted = [callers.embed(f"accepted {i}") for i in range(5)]
    await started()
    encoder.release_tokeniser.set()
    await asyncio.gather(*accepted)
    assert encoder.prompts == 5


async def test_a_dropped_prompt_can_be_queued_again_while_it_is_tokenised(
    callers: Callers, encoder: HeldEncoder
) -> None:
    encoder.release.set()
    encoder.release_tokeniser.clear()
    leaving = callers.embed("again")
    await started()
    await leave(leaving)
    again = callers.embed("again")
    await started()
    encoder.release_tokeniser.set()
    assert len(await again) == 1
    assert encoder.batches == [["again"]]
    assert len(callers.batcher) == 0


async def test_a_running_prompt_without_callers_finishes_and_can_be_joined(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    await leave(first)
    assert len(callers.batcher) == callers.queued() == 0
    # The queue is empty, so that a call larger than its limit is accepted.
    large = await callers.queue(*(f"large {i}" for i in range(150)))
    await leave(large)
    again = callers.embed("first")
    await started()
    assert len(callers.batcher) == 1
    encoder.release.set()
    await again
    assert encoder.batches == [["first"]]
    assert len(callers.batcher) == 0


async def test_a_prompt_left_to_background_callers_runs_last(
    callers: Callers, encoder: HeldEncoder
) -> None:
    first = await callers.occupy_device()
    background = await callers.queue("background", background=True)
    leaving = await callers.queue("background")
    staying = await callers.queue("x" * 40)
    await leave(leaving)
    encoder.release.set()
    await asyncio.gather(first, background, staying)
    assert encoder.batches == [["first"], ["x" * 40], ["background"]]


async def test_pieces_of_a_cancelled_call_are_not_tokenised(
    make_callers: MakeCallers, encoder: HeldEncoder
) -> None:
    callers = make_callers(max_queued_prompts=1000)
    encoder.release_tokeniser.clear()
    leaving = callers.embed(*(f"leaving {i}" for i in range(900)))
    await started()
    await leave(leaving)
    staying = callers.embed("staying")
    await started()
    encoder.release_tokeniser.set()
    encoder.release.set()
    await staying
    assert encoder.batches == [["staying"]]
    # The first piece of the large call, which had begun, and the other call.
    assert callers.metrics.registry.get_sample_value("vzero_tokenise_seconds_count") == 2


def test_throughput_is_estimated_in_tokens() -> None:
    throughput = Throughput()
    for _ in range(200):
        throughput.record(prompts=10, tokens=100, seconds=0.1)
    assert throughput.prompts_per_second == pytest.approx(100, rel=1e-2)
    # A prompt that is ten times as long takes ten times as long.
    assert throughput.seconds(tokens=100, prompts=0) == pytest.approx(0.1, rel=1e-2)
    assert throughput.seconds(tokens=0, prompts=10) == pytest.approx(0.1, rel=1e-2)
