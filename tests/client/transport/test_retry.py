"""Which errors are retried, and when."""

import pytest

from vzero import errors
from vzero._transport.deadline import Deadline
from vzero._transport.retry import Backoff, pause_before_retry


def test_pauses_grow_to_a_bound_and_start_again() -> None:
    backoff = Backoff(first=0.1, longest=1.0)
    pauses = [backoff.pause() for _ in range(50)]
    for i, pause in enumerate(pauses):
        ceiling = min(1.0, 0.1 * 2**i)
        assert ceiling / 2 <= pause <= ceiling
    backoff.reset()
    assert backoff.pause() <= 0.1


@pytest.mark.parametrize(
    "error", [errors.Unavailable("gone"), errors.Overloaded("queue", retry_after=0.01)]
)
def test_errors_that_are_retried(error: errors.VzeroError) -> None:
    assert pause_before_retry(error, Backoff(), Deadline(10)) > 0


@pytest.mark.parametrize(
    "error",
    [
        errors.Overloaded("disk"),
        errors.InvalidArgument("bad"),
        errors.NotFound("who"),
        errors.Internal("bug", error_id="abc"),
    ],
)
def test_errors_that_are_not_retried(error: errors.VzeroError) -> None:
    with pytest.raises(type(error)):
        pause_before_retry(error, Backoff(), Deadline(10))


def test_no_retry_after_the_deadline() -> None:
    with pytest.raises(errors.Overloaded):
        pause_before_retry(errors.Overloaded("q", retry_after=5), Backoff(), Deadline(1))
    assert Deadline(-1).left() == 0.0
