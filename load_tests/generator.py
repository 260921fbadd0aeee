"""Load generator on asyncio: ``python -m load_tests.generator --address HOST:PORT``.

Prints a table, then one JSON object with the figures per concurrency as the last line.
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

from load_tests import policies
from load_tests.callers import Router, Trainer
from load_tests.loop import Caller, closed_loop, open_loop
from load_tests.prompts import PromptSource
from vzero.v1 import value_pb2_grpc

Mix = Literal["router", "trainer"]


@dataclass(frozen=True, slots=True)
class Load:
    """Description of a load.

    Attributes:
        address: ``host:port`` of the server.
        mix: Kind of callers.
        policies: Policies of the load: a router requests values under all of them; trainer i
            trains the i-th, modulo their number.
        concurrency: Number of concurrent callers.
        seconds: Duration of the measurement.
        warmup: Duration of the same load before it, in seconds, not measured.
        rate: Calls per second (open loop); None: each caller sends its next call after the reply
            to the last (closed loop).
        repeated: Share of common prompts, in [0, 1]; the others are new.
        pool: Number of common prompts.
        batch: Minimum and maximum number of prompts of a trainer's step.
        seed: Loads with different seeds send different new prompts and outcomes.
        most_calls: Maximum number of calls.
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
    """Send a load and return its figures: ``Tally.summary`` with concurrency and rate."""
    return uvloop.run(measure(load))


async def measure(load: Load) -> dict[str, Any]:
    """Send a load; the asyncio version of ``send``."""
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


def levels(
    load: Load, concurrencies: Sequence[int], *, temporary_policies: bool
) -> list[dict[str, Any]]:
    """Send a load at several concurrencies, one after the other.

    Args:
        load: Description of the load.
        concurrencies: Numbers of concurrent callers.
        temporary_policies: Create the policies before the load and delete them after it.
    """
    with grpc.insecure_channel(load.address) as channel:
        if temporary_policies:
            policies.create(channel, load.policies)
        try:
            return [send(replace(load, concurrency=callers)) for callers in concurrencies]
        finally:
            if temporary_policies:
                policies.delete(channel, load.policies)


def table_of(mix: str, results: Sequence[dict[str, Any]]) -> Table:
    """Table of the figures of several concurrencies."""
    table = Table(title=f"{mix}: milliseconds per call")
    for column in ("callers", "calls", "p50", "p90", "p99", "calls/s", "prompts/s", "errors"):
        table.add_column(column, justify="right")
    for level in results:
        latencies = [level[name] for name in ("p50_ms", "p90_ms", "p99_ms")]
        errors = ", ".join(f"{count} {code}" for code, count in level["errors"].items())
        table.add_row(
            str(level["concurrency"]),
            str(level["requests"]),
            *("-" if latency is None else f"{latency:.2f}" for latency in latencies),
            f"{level['requests_per_s']:.0f}",
            f"{level['prompts_per_s']:.0f}",
            errors or "none",
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and send the load it describes."""
    parser = argparse.ArgumentParser(prog="load_tests.generator", description=__doc__)
    parser.add_argument("--address", required=True, help="host:port of a running server")
    parser.add_argument("--mix", choices=get_args(Mix), default="router")
    parser.add_argument(
        "--concurrency",
        type=_counts,
        default=[1, 8, 64],
        help="numbers of callers, default: 1,8,64",
    )
    parser.add_argument("--seconds", type=_seconds, default=5.0, help="per concurrency, default: 5")
    parser.add_argument(
        "--warmup", type=float, default=1.0, help="seconds not measured, default: 1"
    )
    parser.add_argument("--rate", type=float, help="calls per second; default: a closed loop")
    parser.add_argument(
        "--policies", help="existing policies, separated by commas; default: temporary ones"
    )
    parser.add_argument(
        "--repeated", type=float, default=0.3, help="share of common prompts, default: 0.3"
    )
    parser.add_argument("--most-calls", type=int, default=1_000_000, help="maximum per concurrency")
    parser.add_argument("--seed", default=f"{time.time_ns():x}", help="default: a random one")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args(arguments)
    temporary = options.policies is None
    load = Load(
        options.address,
        options.mix,
        policies.names(options.mix, options.seed, options.concurrency)
        if temporary
        else tuple(options.policies.split(",")),
        seconds=options.seconds,
        warmup=options.warmup,
        rate=options.rate,
        repeated=options.repeated,
        seed=options.seed,
        most_calls=options.most_calls,
    )
    results = levels(load, options.concurrency, temporary_policies=temporary)
    if not options.json:
        Console().print(table_of(load.mix, results))
    print(json.dumps({"mix": load.mix, "seed": load.seed, "levels": results}))


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if min(counts) < 1 or max(counts) > 1024:
        raise argparse.ArgumentTypeError("must be in 1…1024")
    return counts


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 600:
        raise argparse.ArgumentTypeError("must be in 0…600")
    return seconds


if __name__ == "__main__":
    main()
