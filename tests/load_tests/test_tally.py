"""Statistics of calls."""

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


def test_without_calls_percentiles_are_none() -> None:
    assert Tally().summary(1.0)["p99_ms"] is None


async def test_an_open_loop_measures_latency_from_the_time_a_call_was_due() -> None:
    async def slow() -> CompletedCall:
        await asyncio.sleep(0.05)
        return CompletedCall("Slow", 1)

    tally = await open_loop([slow], rate=50.0, seconds=0.2, most_calls=100)
    summary = tally.summary(1.0)
    assert summary["requests"] + summary["unsent"] == 10
    assert summary["unsent"] > 0
    # The last call sent had waited for the calls before it.
    assert summary["p99_ms"] > 90
