"""Calls at a fixed rate, independent of the replies, for a client process."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import uvloop
from google.rpc import error_details_pb2, status_pb2

from benchmarks.zoo_prompts import new_zoo_prompts
from load_tests.messages import predict_request
from vzero.v1 import value_pb2_grpc

_TICK = 0.01
_TIMEOUT = 60.0


@dataclass(slots=True)
class _Results:
    """Latencies of successful calls, and status codes of failed ones."""

    latencies: list[float] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    without_retry_info: int = 0


def flood(
    address: str, policy_id: str, *, rate: float, seconds: float, prompts: int, seed: str
) -> dict[str, Any]:
    """Send calls of ``Predict`` with new prompts at a fixed rate.

    Args:
        address: ``host:port`` of the server.
        policy_id: The policy.
        rate: Calls per second.
        seconds: Duration; calls in progress at its end are awaited.
        prompts: Prompts per call.
        seed: Different seeds send different prompts.

    Returns:
        ``offered_per_s`` and ``answered_per_s`` in prompts; ``p50_ms`` and ``p99_ms`` of
        successful calls; ``codes``, failed calls by status code; ``without_retry_info``, the
        number of failed calls without a retry delay.
    """
    return uvloop.run(_flood(address, policy_id, rate, seconds, prompts, seed))


async def _flood(
    address: str, policy_id: str, rate: float, seconds: float, prompts: int, seed: str
) -> dict[str, Any]:
    results = _Results()
    texts = new_zoo_prompts(int(rate * seconds) * prompts, seed)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: value_pb2_grpc.ValueServiceAsyncStub = value_pb2_grpc.ValueServiceStub(channel)
        await channel.channel_ready()
        began = time.perf_counter()
        sent = 0
        async with asyncio.TaskGroup() as group:
            while (now := time.perf_counter() - began) < seconds:
                due = min(int(rate * now), len(texts) // prompts)
                for number in range(sent, due):
                    call_prompts = texts[number * prompts : (number + 1) * prompts]
                    group.create_task(_call(stub, policy_id, call_prompts, results))
                sent = max(sent, due)
                await asyncio.sleep(_TICK)
            sending = time.perf_counter() - began
        # The last admitted calls end after the last call is sent.
        elapsed = time.perf_counter() - began
    p50, p99 = 1000 * np.quantile(results.latencies or [np.nan], [0.5, 0.99])
    return {
        "offered_per_s": sent * prompts / sending,
        "answered_per_s": len(results.latencies) * prompts / elapsed,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "codes": dict(results.codes),
        "without_retry_info": results.without_retry_info,
    }


async def _call(
    stub: "value_pb2_grpc.ValueServiceAsyncStub",
    policy_id: str,
    prompts: list[str],
    results: _Results,
) -> None:
    began = time.perf_counter()
    try:
        await stub.Predict(predict_request(policy_id, prompts), timeout=_TIMEOUT)
    except grpc.aio.AioRpcError as error:
        results.codes[error.code().name] += 1
        results.without_retry_info += not _has_retry_info(error)
    else:
        results.latencies.append(time.perf_counter() - began)


def _has_retry_info(error: grpc.aio.AioRpcError) -> bool:
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(details if isinstance(details, bytes) else b"")
    return any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
