"""Workers: one function in the background."""

import asyncio
import threading
from collections.abc import Callable, Coroutine


class Worker:
    """A function on a daemon thread.

    Attributes:
        started: whether the thread was started.
    """

    def __init__(self, run: Callable[[], None], name: str) -> None:
        """Prepare the thread.

        Args:
            run: called once.
            name: name of the thread.
        """
        self.started = False
        self._thread = threading.Thread(target=run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; a second call does nothing."""
        if not self.started:
            self.started = True
            self._thread.start()

    def start_if_possible(self) -> None:
        """Start the thread: it needs no event loop."""
        self.start()

    def join(self) -> None:
        """Wait until the function has returned, if it was started."""
        if self.started:
            self._thread.join()


class AsyncWorker:
    """A coroutine function as a task of the running event loop.

    Attributes:
        started: whether the task was created.
    """

    def __init__(self, run: Callable[[], Coroutine[None, None, None]], name: str) -> None:
        """Prepare the task.

        Args:
            run: called once.
            name: name of the task.
        """
        self.started = False
        self._run = run
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Create the task; a second call does nothing."""
        if self._task is None:
            self.started = True
            self._task = asyncio.create_task(self._run(), name=self._name)

    def start_if_possible(self) -> None:
        """Do nothing: whether an event loop runs is not known before the first ``await``."""

    async def join(self) -> None:
        """Wait until the task has ended, if it was created. Its errors are not raised."""
        if self._task is not None:
            await asyncio.wait([self._task])
