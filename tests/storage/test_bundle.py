import io
from hashlib import blake2b

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.outcomes import sums
from vzero_server.errors import BundleError
from vzero_server.storage import bundle
from vzero_server.storage.records import Outcome

outcomes = st.lists(
    st.builds(
        Outcome,
        outcome_id=st.text(min_size=1, max_size=5),
        prompt=st.text(min_size=1, max_size=20),
        reward=st.floats(0, 1),
        rollouts=st.integers(1, 100),
        observed_at=st.floats(0, 2e9),
        cost=st.none() | st.floats(0, 1e6),
        step=st.none() | st.integers(0, 2**62),
        tokens=st.none() | st.floats(0, 1e6),
        decision_id=st.none() | st.text(min_size=1, max_size=5),
    ),
    max_size=20,
)


def packed(rows: list[Outcome], size: int = 7) -> bytes:
    writer = bundle.BundleWriter()
    parts = [writer.header(bundle.Header("policy", 1.5))]
    parts += [writer.outcomes(rows[i : i + size]) for i in range(0, len(rows), size)]
    return b"".join([*parts, writer.footer()])


def unpacked(data: bytes) -> list[Outcome]:
    return [o for batch in bundle.read_batches(io.BytesIO(data)) for o in batch]


@given(outcomes)
def test_a_packed_bundle_is_read_back(rows: list[Outcome]) -> None:
    data = packed(rows)
    assert bundle.read_header(io.BytesIO(data)) == bundle.Header("policy", 1.5)
    assert unpacked(data) == rows


def test_every_truncation_is_detected() -> None:
    data = packed(sums(20))
    for length in range(len(data)):
        with pytest.raises(BundleError):
            unpacked(data[:length])


@settings(max_examples=300)
@given(st.data())
def test_every_flipped_bit_is_detected(data: st.DataObject) -> None:
    good = packed(sums(20))
    position = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BundleError):
        unpacked(bytes(bad))


def test_a_newer_format_is_named() -> None:
    header = {"format": bundle.FORMAT, "format_version": 3, "policy_id": "p", "exported_at": 1.0}
    with pytest.raises(BundleError, match="format version 3; this server reads up to 2"):
        bundle.read_header(io.BytesIO(msgpack.packb(header)))


def test_the_first_format_is_still_read() -> None:
    """Format version 1 ends with the step."""
    header = {"format": bundle.FORMAT, "format_version": 1, "policy_id": "p", "exported_at": 1.0}
    rows = [[o.outcome_id, o.prompt, o.reward, o.rollouts, 1.0, None, 3] for o in sums(4)]
    data = msgpack.packb(header) + msgpack.packb(rows)
    digest = blake2b(data, digest_size=16).digest()
    rows_read = unpacked(data + msgpack.packb({"rows": 4, "digest": digest}))
    assert [(o.step, o.tokens, o.decision_id) for o in rows_read] == [(3, None, None)] * 4


@pytest.mark.parametrize("data", [b"", b"junk", msgpack.packb({"format": "else"}), b"\xc1" * 100])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        bundle.read_header(io.BytesIO(data))


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(BundleError, match="goes on after its end"):
        unpacked(packed(sums(3)) + msgpack.packb([]))
