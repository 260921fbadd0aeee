"""Files appear when they are complete."""

import io
from pathlib import Path

import pytest

from vzero._files import read_pieces, write_whole


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    with write_whole(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_an_error_leaves_the_old_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), write_whole(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_pieces() -> None:
    assert list(read_pieces(io.BytesIO(b"abcde"), 2)) == [b"ab", b"cd", b"e"]
    assert list(read_pieces(io.BytesIO(b""), 2)) == [b""]
