"""Load from one asyncio process: ``python -m load_tests.generator --address HOST:PORT``.

Prints a table and, as the last line, one JSON object with the figures per concurrency.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import grpc
import uvloop
from rich.console import Console
from rich.table import Table

from load_tests.callers import Router, Trainer
from load_tests.fleet import fill, forget
from load_tests.loop import Caller, closed_loop, open_loop
from load_tests.prompts import PromptSource
from vzero.v1 import value_pb2_grpc

Mix = Literal["router", "trainer"]


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    Attributes:
        address: ``host:port`` of the server.
        mix: Whose calls.
        policies: Policies a router asks for; trainer i trains the i-th, round about.
        concurrency: Callers at once.
        seconds: Duration of the measurement.
        warmup: Seconds of the same load before it, not counted.
        rate: Calls per second; None: each caller goes on when it is answered.
        repeated: Share of prompts that others have asked before, in [0, 1].
        pool: Number of those prompts.
        batch: Least and most prompts of a trainer's step.
        seed: Loads of different seeds send different new prompts and outcomes.
        most_calls: Calls in all, at most.
    """

    address: str
    mix: Mix
    policies: tuple[str, ...]
    concurrency: int = 1
    seconds: float = 5.0
    warmup: float = 1.0
    rate: float | None = None
    repeated: float = 0.3
    pool: int = 256
    batch: tuple[int, int] = (64, 256)
    seed: str = "0"
    most_calls: int = 1_000_000


def send(load: Load) -> dict[str, Any]:
    """Send a load; returns its figures (``Tally.summary``) with concurrency and rate."""
    return uvloop.run(measure(load))


async def measure(load: Load) -> dict[str, Any]:
    """Send a load; see ``send``."""
    async with grpc.aio.insecure_channel(load.address) as channel:
        stub = value_pb2_grpc.ValueServiceStub(channel)
        callers = [_caller(load, stub, number) for number in range(load.concurrency)]
        if load.warmup > 0:
            await closed_loop(callers, seconds=load.warmup, most_calls=load.most_calls)
        began = time.perf_counter()
        if load.rate is None:
            tally = await closed_loop(callers, seconds=load.seconds, most_calls=load.most_calls)
        else:
            tally = await open_loop(
                callers, rate=load.rate, seconds=load.seconds, most_calls=load.most_calls
            )
        figures = tally.summary(time.perf_counter() - began)
    return {"concurrency": load.concurrency, "rate": load.rate, **figures}


def _caller(load: Load, stub: "value_pb2_grpc.ValueServiceAsyncStub", number: int) -> Caller:
    run = f"{load.seed}/{load.mix}/{load.concurrency}/{number}"
    source = PromptSource(run, repeated=load.repeated, pool=load.pool)
    if load.mix == "router":
        return Router(stub, load.policies, source)
    policy_id = load.policies[number % len(load.policies)]
    return Trainer(stub, policy_id, source, run=run, batch=load.batch)


def levels(load: Load, concurrencies: Sequence[int], *, own: bool) -> list[dict[str, Any]]:
    """Send a load at several concurrencies, one after the other.

    Args:
        load: What to send.
        concurrencies: Callers at once.
        own: Fill the policies before, and delete them after.
    """
    with grpc.insecure_channel(load.address) as channel:
        if own:
            fill(channel, load.policies)
        try:
            return [send(replace(load, concurrency=callers)) for callers in concurrencies]
        finally:
            if own:
                forget(channel, load.policies)


def own_policies(mix: Mix, seed: str, concurrencies: Sequence[int]) -> tuple[str, ...]:
    """Names for the policies of a load: four for routers, one for each trainer."""
    count = 4 if mix == "router" else max(concurrencies)
    return tuple(f"load-{mix}-{seed}-{number}" for number in range(count))


def table_of(mix: str, results: Sequence[dict[str, Any]]) -> Table:
    """The figures of several concurrencies for a reader."""
    table = Table(title=f"{mix}: milliseconds per call")
    for column in ("callers", "calls", "p50", "p90", "p99", "calls/s", "prompts/s", "errors"):
        table.add_column(column, justify="right")
    for one in results:
        latencies = [one[name] for name in ("p50_ms", "p90_ms", "p99_ms")]
        errors = ", ".join(f"{count} {code}" for code, count in one["errors"].items())
        table.add_row(
            str(one["concurrency"]),
            str(one["requests"]),
            *("-" if latency is None else f"{latency:.2f}" for latency in latencies),
            f"{one['requests_per_s']:.0f}",
            f"{one['prompts_per_s']:.0f}",
            errors or "none",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and send the load it describes."""
    parser = argparse.ArgumentParser(prog="load_tests.generator", description=__doc__)
    parser.add_argument("--address", required=True, help="host:port of a running server")
    parser.add_argument("--mix", choices=get_args(Mix), default="router")
    parser.add_argument("--concurrency", type=_counts, default=[1, 8, 64], help="1,8,64")
    parser.add_argument("--seconds", type=_seconds, default=5.0, help="per concurrency, 5")
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds not counted, 1")
    parser.add_argument("--rate", type=float, help="calls per second, instead of a closed loop")
    parser.add_argument("--policies", help="existing policies to use, by comma; default: its own")
    parser.add_argument("--repeated", type=float, default=0.3, help="share of known prompts, 0.3")
    parser.add_argument("--most-calls", type=int, default=1_000_000, help="per concurrency")
    parser.add_argument("--seed", default=f"{time.time_ns():x}", help="default: a new one")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    given = parser.parse_args(arguments)
    own = given.policies is None
    load = Load(
        given.address,
        given.mix,
        own_policies(given.mix, given.seed, given.concurrency)
        if own
        else tuple(given.policies.split(",")),
        seconds=given.seconds,
        warmup=given.warmup,
        rate=given.rate,
        repeated=given.repeated,
        seed=given.seed,
        most_calls=given.most_calls,
    )
    results = levels(load, given.concurrency, own=own)
    if not given.json:
        Console().print(table_of(load.mix, results))
    print(json.dumps({"mix": load.mix, "seed": load.seed, "levels": results}))


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if min(counts) < 1 or max(counts) > 1024:
        raise argparse.ArgumentTypeError("must lie in 1…1024")
    return counts


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 600:
        raise argparse.ArgumentTypeError("must lie in 0…600")
    return seconds


if __name__ == "__main__":
    main()
