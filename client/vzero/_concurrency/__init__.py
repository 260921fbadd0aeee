"""Waiting and background work, for threads and for asyncio, with the same methods."""

from vzero._concurrency.condition import AsyncCondition, Condition
from vzero._concurrency.functions import (
    AsyncCancelled,
    Cancelled,
    async_run_blocking,
    async_sleep,
    run_blocking,
    sleep,
)
from vzero._concurrency.worker import AsyncWorker, Worker

__all__ = [
    "AsyncCancelled",
    "AsyncCondition",
    "AsyncWorker",
    "Cancelled",
    "Condition",
    "Worker",
    "async_run_blocking",
    "async_sleep",
    "run_blocking",
    "sleep",
]
