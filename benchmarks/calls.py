"""Calls of ``Predict`` with given prompts, for a client process."""

import asyncio
import time
from collections.abc import Sequence

import grpc
import numpy as np
import uvloop

from load_tests.messages import predict_request
from vzero.v1 import value_pb2_grpc

_TIMEOUT = 120.0


def predict_all(
    address: str, policy_id: str, calls: Sequence[Sequence[str]], concurrency: int
) -> dict[str, float]:
    """Request the values of all prompts.

    Args:
        address: ``host:port`` of the server.
        policy_id: The policy.
        calls: Prompts of each call.
        concurrency: Number of concurrent calls.

    Returns:
        Total ``seconds``, ``cpu_seconds`` of this process, and ``p50_ms`` and ``p99_ms`` of a
        call.

    Raises:
        grpc.RpcError: A call fails.
    """
    return uvloop.run(_predict_all(address, policy_id, calls, concurrency))


async def _predict_all(
    address: str, policy_id: str, calls: Sequence[Sequence[str]], concurrency: int
) -> dict[str, float]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: value_pb2_grpc.ValueServiceAsyncStub = value_pb2_grpc.ValueServiceStub(channel)
        await channel.channel_ready()
        requests = iter([predict_request(policy_id, prompts) for prompts in calls])

        latencies: list[float] = []

        async def work() -> None:
            for request in requests:
                sent = time.perf_counter()
                await stub.Predict(request, timeout=_TIMEOUT)
                latencies.append(time.perf_counter() - sent)

        began, cpu_began = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    p50, p99 = 1000 * np.quantile(latencies, [0.5, 0.99])
    return {"seconds": seconds, "cpu_seconds": cpu, "p50_ms": float(p50), "p99_ms": float(p99)}
