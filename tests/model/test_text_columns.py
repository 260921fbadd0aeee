import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzero_server.model.text_columns import NAMES, text_columns


def column(prompt: str, name: str) -> float:
    return float(text_columns([prompt])[0, NAMES.index(name)])


@given(st.lists(st.text(max_size=400), max_size=4))
def test_every_text_gives_finite_columns(prompts: list[str]) -> None:
    columns = text_columns(prompts)
    assert columns.shape == (len(prompts), len(NAMES))
    assert columns.dtype == np.float32
    assert np.isfinite(columns).all()


@pytest.mark.parametrize("prompt", ["", "\ud800", "9" * 5000, "word " * 30_000, "\u0663\u0664"])
def test_unusual_texts_give_finite_columns(prompt: str) -> None:
    assert np.isfinite(text_columns([prompt])).all()


def test_counts_are_logarithms() -> None:
    assert column("a" * 99, "log_chars") == pytest.approx(np.log(100))
    assert column("one two\nthree", "log_words") == pytest.approx(np.log(4))
    assert column("one two\nthree", "log_lines") == pytest.approx(np.log(2))
    assert column("add 2 and 40 and 2", "log_numbers") == pytest.approx(np.log(4))
    assert column("add 2 and 40 and 2", "log_distinct_numbers") == pytest.approx(np.log(3))
    assert column("add 2 and 40", "largest_number") == pytest.approx(np.log(41))


def test_shares_are_of_characters() -> None:
    assert column("AB12", "upper") == pytest.approx(0.5)
    assert column("AB12", "digits") == pytest.approx(0.5)
    assert column("x + y = z", "operators") == pytest.approx(2 / 9)


def test_tail_columns_differ_after_a_shared_prefix() -> None:
    prefix = "An example that everyone shares. " * 200
    columns = text_columns([prefix + "What is 17 * 23?", prefix + "Who wrote Emma?"])
    tail = [i for i, name in enumerate(NAMES) if name.startswith("tail_")]
    assert (columns[0, tail] != columns[1, tail]).any()


def test_a_prompt_does_not_depend_on_its_neighbours() -> None:
    both = text_columns(["first", "the second one"])
    np.testing.assert_array_equal(both[1], text_columns(["the second one"])[0])
