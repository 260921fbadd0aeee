"""Functions that differ between threads and asyncio."""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Cancelled = concurrent.futures.CancelledError
AsyncCancelled = asyncio.CancelledError


def sleep(seconds: float) -> None:
    """Sleep on this thread."""
    time.sleep(seconds)


async def async_sleep(seconds: float) -> None:
    """Sleep in this task."""
    await asyncio.sleep(seconds)


def run_blocking(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call a function that blocks, on this thread."""
    return function(*args, **kwargs)


async def async_run_blocking(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call a function that blocks, on a thread of the event loop's pool."""
    return await asyncio.to_thread(function, *args, **kwargs)
