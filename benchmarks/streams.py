"""Streams of outcomes, sent as fast as they are acknowledged."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

import grpc
import uvloop

from load_tests.messages import check_acks, chunks
from vzero.v1 import value_pb2, value_pb2_grpc

CHUNK = 256
"""Rows per chunk."""
MAX_IN_FLIGHT = 32
"""Maximum number of unacknowledged chunks of a stream."""


def send(
    address: str, policies: Sequence[str], prompts: Sequence[Sequence[str]], run: str
) -> float:
    """Send one outcome per prompt, with one stream per policy.

    All messages are created before the measurement.

    Args:
        address: ``host:port`` of the server.
        policies: Policy of each stream.
        prompts: Prompts of each policy, in order.
        run: Name of the run; part of the ids of the outcomes.

    Returns:
        Seconds from the first chunk to the last acknowledgement.
    """
    requests = [
        chunks(policy_id, policy_prompts, run=run, step=1, rows=CHUNK)
        for policy_id, policy_prompts in zip(policies, prompts, strict=True)
    ]
    return uvloop.run(_send(address, requests))


def send_for(
    address: str, policies: Sequence[str], prompts: Sequence[str], run: str, seconds: float
) -> float:
    """Send outcomes of the prompts repeatedly for some seconds.

    Args:
        address: ``host:port`` of the server.
        policies: Policy of each stream.
        prompts: Prompts of one step of each policy.
        run: Name of the run; part of the ids of the outcomes.
        seconds: Duration; no chunk is sent after it.

    Returns:
        Rows acknowledged per second.
    """
    end = time.perf_counter() + seconds
    sent = 0

    def endless(policy_id: str) -> Iterator[value_pb2.UpdateContextRequest]:
        nonlocal sent
        step = 0
        while True:
            step += 1
            for start in range(0, len(prompts), CHUNK):
                if time.perf_counter() > end:
                    return
                chunk_prompts = prompts[start : start + CHUNK]
                (chunk,) = chunks(
                    policy_id, chunk_prompts, run=f"{run}/{start}", step=step, rows=CHUNK
                )
                sent += len(chunk_prompts)
                yield chunk

    elapsed = uvloop.run(_send(address, [endless(policy_id) for policy_id in policies]))
    return sent / elapsed


async def _send(
    address: str, requests: Sequence[Iterable[value_pb2.UpdateContextRequest]]
) -> float:
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        stub = value_pb2_grpc.ValueServiceStub(channel)
        began = time.perf_counter()
        await asyncio.gather(*(_stream(stub, stream_requests) for stream_requests in requests))
        return time.perf_counter() - began


async def _stream(
    stub: "value_pb2_grpc.ValueServiceAsyncStub",
    requests: Iterable[value_pb2.UpdateContextRequest],
) -> None:
    free = asyncio.Semaphore(MAX_IN_FLIGHT)
    sent: list[value_pb2.UpdateContextRequest] = []

    async def limited() -> AsyncIterator[value_pb2.UpdateContextRequest]:
        for request in requests:
            await free.acquire()
            sent.append(request)
            yield request

    acks = []
    async for ack in stub.UpdateContext(limited(), timeout=300.0):
        free.release()
        acks.append(ack)
    check_acks(sent, acks)
    if any(ack.duplicates for ack in acks):
        raise RuntimeError("the server reported duplicate outcomes")
