"""Outcomes without acknowledgement are sent again, in order, after any sequence of events."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vzero._messages.outcomes import build_outcome
from vzero._stream.send_buffer import SendBuffer
from vzero._stream.spool import Spool

WINDOW = 3
CHUNK = 2


def make(spool: Spool | None = None) -> SendBuffer:
    return SendBuffer("p", chunk_size=CHUNK, flush_interval=10.0, window=WINDOW, spool=spool)


def fill(buffer: SendBuffer, chunks: int) -> None:
    for i in range(chunks * CHUNK):
        buffer.add(build_outcome("x", 1, outcome_id=str(i)))


def test_chunks_seal_when_full_or_asked() -> None:
    buffer = make()
    assert buffer.seal_in is None
    assert not buffer.add(build_outcome("x", 1))
    assert 0 < (buffer.seal_in or 0) <= 10.0
    assert buffer.add(build_outcome("x", 1))
    buffer.add(build_outcome("x", 1))
    buffer.seal()
    sizes = [len(request.outcomes) for request in iter(buffer.take, None)]
    assert sizes == [2, 1]
    assert buffer.pending == 3


def test_a_chunk_is_bounded_in_bytes() -> None:
    buffer = SendBuffer("p", chunk_size=4096, flush_interval=10, window=3, spool=None)
    sealed = [buffer.add(build_outcome("x" * 65_536, 1)) for _ in range(200)]
    assert sum(sealed) == 1


def test_the_window_bounds_memory_and_flight() -> None:
    buffer = make()
    fill(buffer, WINDOW)
    assert not buffer.has_room
    assert len(list(iter(buffer.take, None))) == WINDOW
    buffer.acknowledge()
    assert buffer.has_room
    assert buffer.pending == (WINDOW - 1) * CHUNK


def test_damaged_leftovers_are_skipped(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    buffer = make(spool)
    buffer.disconnected = True
    fill(buffer, 3)
    while chunk := buffer.start_spooling():
        assert chunk.request is not None
        buffer.finish_spooling(spool.write(chunk.number, chunk.request))
    spool.close()
    spool = Spool(tmp_path)
    spool.entries()[1].path.write_bytes(b"damaged")
    buffer = make(spool)
    assert buffer.pending == 3 * CHUNK
    assert len(list(iter(buffer.take, None))) == 2
    assert buffer.pending == 2 * CHUNK
    spool.close()


class Journey(RuleBasedStateMachine):
    """Adds, sends, loses connections, spools and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.spool = Spool(Path(self.folder.name))
        self.buffer = make(self.spool)
        self.added = 0
        self.flying: list[list[int]] = []
        self.acked: list[int] = []

    @precondition(lambda self: self.buffer.has_room)
    @rule(n=st.integers(1, 3))
    def add(self, n: int) -> None:
        for _ in range(n):
            self.buffer.add(build_outcome("x", 1, outcome_id=str(self.added)))
            self.added += 1

    @rule()
    def seal(self) -> None:
        self.buffer.seal()

    @rule()
    def send(self) -> None:
        request = self.buffer.take()
        if request is not None:
            self.flying.append([int(item.outcome_id) for item in request.outcomes])

    @precondition(lambda self: self.flying)
    @rule()
    def ack(self) -> None:
        self.acked += self.flying.pop(0)
        self.buffer.acknowledge()

    @rule()
    def lose_connection(self) -> None:
        self.buffer.rewind()
        self.buffer.disconnected = True
        self.flying = []

    @rule()
    def spool_one(self) -> None:
        with self.spooling():
            pass

    @rule()
    def send_while_spooling(self) -> None:
        with self.spooling():
            self.send()

    @rule()
    def lose_connection_while_spooling(self) -> None:
        with self.spooling():
            self.lose_connection()

    @contextmanager
    def spooling(self) -> Iterator[None]:
        chunk = self.buffer.start_spooling()
        path = None
        if chunk is not None:
            assert chunk.request is not None
            path = self.spool.write(chunk.number, chunk.request)
        yield
        if chunk is not None:
            self.buffer.finish_spooling(path)

    @rule()
    def restart(self) -> None:
        """The process closes its stream, and another one starts with the folder."""
        self.buffer.seal()
        self.lose_connection()
        while chunk := self.buffer.start_spooling():
            assert chunk.request is not None
            self.buffer.finish_spooling(self.spool.write(chunk.number, chunk.request))
        self.spool.close()
        self.spool = Spool(Path(self.folder.name))
        self.buffer = make(self.spool)

    @invariant()
    def nothing_is_lost_and_all_is_in_order(self) -> None:
        assert self.acked == list(range(len(self.acked)))
        assert self.buffer.pending == self.added - len(self.acked)

    def teardown(self) -> None:
        self.buffer.seal()
        self.lose_connection()
        for _ in range(1000):
            self.send()
            if not self.flying:
                break
            self.ack()
        assert self.acked == list(range(self.added))
        assert self.buffer.pending == 0
        assert self.spool.entries() == []
        self.spool.close()
        self.folder.cleanup()


TestJourney = Journey.TestCase
TestJourney.settings = settings(max_examples=40, stateful_step_count=30)
