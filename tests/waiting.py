"""Waiting for a condition, for as long as the time limit of the test allows."""

import asyncio
import time
from collections.abc import Callable

_PAUSE = 0.005


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    while not condition():
        time.sleep(_PAUSE)


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; the event loop goes on meanwhile."""
    while not condition():
        await asyncio.sleep(_PAUSE)


async def settle() -> None:
    """Let every task that can go on do so until it waits for something else."""
    for _ in range(10):
        await asyncio.sleep(0)
