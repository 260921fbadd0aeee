"""Trainers that stream outcomes as fast as they are acknowledged."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

import grpc
import uvloop

from load_tests.messages import check_acks, chunks
from vzero.v1 import value_pb2, value_pb2_grpc

CHUNK = 256
"""Rows of a chunk."""
WINDOW = 32
"""Most chunks of a stream that wait for their acknowledgement."""


def send(
    address: str, policies: Sequence[str], prompts: Sequence[Sequence[str]], run: str
) -> float:
    """Send one outcome per prompt, one stream per policy; all messages are made before.

    Args:
        address: ``host:port`` of the server.
        policies: One per stream.
        prompts: Those of each policy, in order.
        run: Makes outcomes new.

    Returns:
        Seconds from the first chunk to the last acknowledgement.
    """
    requests = [
        chunks(policy_id, mine, run=run, step=1, rows=CHUNK)
        for policy_id, mine in zip(policies, prompts, strict=True)
    ]
    return uvloop.run(_send(address, requests))


def send_for(
    address: str, policies: Sequence[str], prompts: Sequence[str], run: str, seconds: float
) -> float:
    """Send outcomes of the prompts again and again for some seconds.

    Args:
        address: ``host:port`` of the server.
        policies: One per stream.
        prompts: One pass over them is one step of each policy.
        run: Makes outcomes new.
        seconds: No chunk is sent later.

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
                piece = prompts[start : start + CHUNK]
                (chunk,) = chunks(policy_id, piece, run=f"{run}/{start}", step=step, rows=CHUNK)
                sent += len(piece)
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
        await asyncio.gather(*(_stream(stub, mine) for mine in requests))
        return time.perf_counter() - began


async def _stream(
    stub: "value_pb2_grpc.ValueServiceAsyncStub",
    requests: Iterable[value_pb2.UpdateContextRequest],
) -> None:
    room = asyncio.Semaphore(WINDOW)
    sent: list[value_pb2.UpdateContextRequest] = []

    async def windowed() -> AsyncIterator[value_pb2.UpdateContextRequest]:
        for request in requests:
            await room.acquire()
            sent.append(request)
            yield request

    acks = []
    async for ack in stub.UpdateContext(windowed(), timeout=300.0):
        room.release()
        acks.append(ack)
    check_acks(sent, acks)
    if any(ack.duplicates for ack in acks):
        raise RuntimeError("the outcomes were not new")
