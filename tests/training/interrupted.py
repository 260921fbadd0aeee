"""Training runs that are interrupted."""

from collections.abc import Callable


class Stopped(Exception):
    """The training run was interrupted."""


def stop_at(last: int) -> Callable[[int, float], None]:
    """Return an ``on_step`` that interrupts a training run after a step."""

    def stop(step: int, _: float) -> None:
        if step == last:
            raise Stopped

    return stop
