"""Which errors end a stream, which are waited out, and which chunk is to blame."""

from pathlib import Path

import grpc
import pytest

from vzero import errors, outcome
from vzero.courier import Courier
from vzero.v1 import value_pb2


def in_flight(chunks: int, **options: object) -> Courier:
    courier = Courier("p", chunk_size=1, window=8, **options)  # type: ignore[arg-type]
    for i in range(chunks):
        courier.backlog.add(outcome.build(f"prompt {i}", 1))
    while courier.backlog.take():
        pass
    return courier


def acked(courier: Courier) -> None:
    courier.acked(value_pb2.UpdateContextResponse(policy_id="p", version=1, accepted=1))


@pytest.mark.parametrize(
    "error",
    [
        errors.Unavailable("gone"),
        errors.Overloaded("full"),
        errors.DeadlineExceeded("slow"),
        errors.Internal("RST_STREAM"),
        errors.VzeroError("proxy", code=grpc.StatusCode.UNKNOWN),
        None,
    ],
)
def test_broken_connections_are_waited_out(error: errors.VzeroError | None) -> None:
    courier = in_flight(2)
    assert 0 < courier.ended(error) <= 0.1
    assert courier.failed is None
    assert courier.backlog.away
    assert courier.backlog.in_flight == 0
    assert courier.backlog.pending == 2
    courier.check()


def test_the_server_may_ask_for_a_longer_pause() -> None:
    assert in_flight(1).ended(errors.Overloaded("full", retry_after=3.0)) == 3.0


@pytest.mark.parametrize(
    "error",
    [
        errors.PermissionDenied("no", code=grpc.StatusCode.PERMISSION_DENIED),
        errors.Unauthenticated("who", code=grpc.StatusCode.UNAUTHENTICATED),
        errors.VzeroError("old server", code=grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_refusals_end_the_stream(error: errors.VzeroError) -> None:
    courier = in_flight(2)
    courier.ended(error)
    assert courier.failed is error
    for _ in range(2):
        with pytest.raises(type(error)):
            courier.check()
    assert courier.backlog.pending == 2


def test_errors_of_the_server_are_given_a_few_chances() -> None:
    courier = in_flight(1)
    error = errors.Internal("bug", error_id="abc")
    for _ in range(5):
        courier.ended(error)
        assert courier.failed is None
        courier.backlog.take()
    courier.ended(error)
    assert courier.failed is error


def test_the_invalid_chunk_is_found_one_by_one() -> None:
    courier = in_flight(4)
    invalid = errors.InvalidArgument("bad", code=grpc.StatusCode.INVALID_ARGUMENT)
    assert courier.ended(invalid) == 0.0
    assert courier.backlog.pending == 4, "nobody knows which it is"
    courier.backlog.take()
    assert courier.backlog.take() is None, "one at a time"
    acked(courier)
    courier.backlog.take()
    assert courier.ended(invalid) == 0.0
    assert courier.backlog.pending == 2, "the second is dropped"
    with pytest.raises(errors.InvalidArgument):
        courier.check()
    courier.check()
    assert courier.backlog.take() is not None
    assert courier.backlog.take() is not None


def test_one_by_one_ends_when_all_suspects_are_stored() -> None:
    courier = in_flight(2)
    courier.ended(errors.InvalidArgument("bad", code=grpc.StatusCode.INVALID_ARGUMENT))
    for _ in range(2):
        courier.backlog.take()
        acked(courier)
    assert courier.backlog.width == 8


def test_settle_keeps_what_is_left(tmp_path: Path) -> None:
    courier = in_flight(3, spool_dir=tmp_path)
    courier.settle()
    assert len(list(tmp_path.glob("*.chunk"))) == 3


def test_settle_without_a_folder_says_what_is_lost() -> None:
    courier = in_flight(3)
    courier.ended(errors.Unavailable("gone"))
    with pytest.raises(errors.Undelivered, match="gone") as caught:
        courier.settle()
    assert (caught.value.outcomes, caught.value.spooled) == (3, None)


def test_settle_with_a_full_folder(tmp_path: Path) -> None:
    courier = in_flight(3, spool_dir=tmp_path, spool_bytes=10)
    with pytest.raises(errors.Undelivered) as caught:
        courier.settle()
    assert caught.value.spooled is None


def test_more_acknowledgements_than_chunks() -> None:
    with pytest.raises(errors.Internal):
        acked(in_flight(0))


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 0},
        {"chunk_size": 4097},
        {"window": 0},
        {"flush_interval": 0},
        {"step": -1},
    ],
)
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        Courier("p", **options)  # type: ignore[arg-type]
    assert caught.value.violations[0][0] == next(iter(options))
