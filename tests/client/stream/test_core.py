"""Which errors end a stream, which are retried, and which chunk was rejected."""

from pathlib import Path

import grpc
import pytest

from vzero import errors
from vzero._messages.outcomes import build_outcome
from vzero._stream.core import StreamCore
from vzero.v1 import value_pb2


def in_flight(chunks: int, **options: object) -> StreamCore:
    core = StreamCore("p", chunk_size=1, window=8, **options)  # type: ignore[arg-type]
    for i in range(chunks):
        core.buffer.add(build_outcome(f"prompt {i}", 1))
    while core.buffer.take():
        pass
    return core


def acknowledge(core: StreamCore) -> None:
    core.acknowledge(value_pb2.UpdateContextResponse(policy_id="p", version=1, accepted=1))


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
def test_connection_errors_are_retried(error: errors.VzeroError | None) -> None:
    core = in_flight(2)
    assert 0 < core.call_ended(error) <= 0.1
    assert core.failure is None
    assert core.buffer.disconnected
    assert core.buffer.in_flight == 0
    assert core.buffer.pending == 2
    core.check()


def test_the_server_may_ask_for_a_longer_pause() -> None:
    assert in_flight(1).call_ended(errors.Overloaded("full", retry_after=3.0)) == 3.0


@pytest.mark.parametrize(
    "error",
    [
        errors.PermissionDenied("no", code=grpc.StatusCode.PERMISSION_DENIED),
        errors.Unauthenticated("who", code=grpc.StatusCode.UNAUTHENTICATED),
        errors.VzeroError("old server", code=grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_refusals_end_the_stream(error: errors.VzeroError) -> None:
    core = in_flight(2)
    core.call_ended(error)
    assert core.failure is error
    for _ in range(2):
        with pytest.raises(type(error)):
            core.check()
    assert core.buffer.pending == 2


def test_internal_errors_are_retried_a_few_times() -> None:
    core = in_flight(1)
    error = errors.Internal("bug", error_id="abc")
    for _ in range(5):
        core.call_ended(error)
        assert core.failure is None
        core.buffer.take()
    core.call_ended(error)
    assert core.failure is error


def test_the_invalid_chunk_is_found_one_by_one() -> None:
    core = in_flight(4)
    invalid = errors.InvalidArgument("bad", code=grpc.StatusCode.INVALID_ARGUMENT)
    assert core.call_ended(invalid) == 0.0
    assert core.buffer.pending == 4, "any of them may be invalid"
    core.buffer.take()
    assert core.buffer.take() is None, "one at a time"
    acknowledge(core)
    core.buffer.take()
    assert core.call_ended(invalid) == 0.0
    assert core.buffer.pending == 2, "the second is dropped"
    with pytest.raises(errors.InvalidArgument):
        core.check()
    core.check()
    assert core.buffer.take() is not None
    assert core.buffer.take() is not None


def test_one_by_one_ends_when_all_suspects_are_stored() -> None:
    core = in_flight(2)
    core.call_ended(errors.InvalidArgument("bad", code=grpc.StatusCode.INVALID_ARGUMENT))
    for _ in range(2):
        core.buffer.take()
        acknowledge(core)
    assert core.buffer.max_in_flight == 8


def test_settle_spools_the_remaining_chunks(tmp_path: Path) -> None:
    core = in_flight(3, spool_dir=tmp_path)
    core.settle()
    assert len(list(tmp_path.glob("*.chunk"))) == 3


def test_settle_without_a_folder_reports_lost_outcomes() -> None:
    core = in_flight(3)
    core.call_ended(errors.Unavailable("gone"))
    with pytest.raises(errors.Undelivered, match="gone") as caught:
        core.settle()
    assert (caught.value.outcomes, caught.value.spooled) == (3, None)


def test_settle_with_a_full_folder(tmp_path: Path) -> None:
    core = in_flight(3, spool_dir=tmp_path, spool_bytes=10)
    with pytest.raises(errors.Undelivered) as caught:
        core.settle()
    assert caught.value.spooled is None


def test_more_acknowledgements_than_chunks() -> None:
    with pytest.raises(errors.Internal):
        acknowledge(in_flight(0))


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
        StreamCore("p", **options)  # type: ignore[arg-type]
    assert caught.value.violations[0][0] == next(iter(options))
