import asyncio

from load_tests.loop import CompletedCall, open_loop
from load_tests.tally import Tally


def test_failed_calls_count_as_requests_but_not_as_answers() -> None:
    tally = Tally()
    for latency in (0.001, 0.002, 0.003):
        tally.answered("Predict", latency, prompts=5)
    tally.failed("UNAVAILABLE")
    tally.failed("UNAVAILABLE")
    summary = tally.summary(seconds=2.0)
    assert (summary["requests"], summary["answered"], summary["prompts"]) == (5, 3, 15)
    assert (summary["requests_per_s"], summary["prompts_per_s"]) == (1.5, 7.5)
    assert (summary["p50_ms"], summary["errors"]) == (2.0, {"UNAVAILABLE": 2})


def test_nothing_at_all_has_no_percentiles() -> None:
    assert Tally().summary(1.0)["p99_ms"] is None


async def test_an_open_loop_times_a_call_from_when_it_was_due() -> None:
    async def slow() -> CompletedCall:
        await asyncio.sleep(0.05)
        return CompletedCall("Slow", 1)

    tally = await open_loop([slow], rate=50.0, seconds=0.2, most_calls=100)
    summary = tally.summary(1.0)
    assert summary["requests"] + summary["unsent"] == 10
    assert summary["unsent"] > 0
    # The last call that was sent had waited for those before it.
    assert summary["p99_ms"] > 90
