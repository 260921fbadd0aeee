"""Trainings that come to an end before theirs."""

from collections.abc import Callable


class Stopped(Exception):
    """A training was interrupted."""


def stop_at(last: int) -> Callable[[int, float], None]:
    """What ``on_step`` is to be for a training to be interrupted after a step."""

    def stop(step: int, _: float) -> None:
        if step == last:
            raise Stopped

    return stop
