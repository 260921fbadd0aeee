import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vzero_server.engine.context.window import ContextWindow
from vzero_server.engine.estimators.selection import Selection, select
from vzero_server.storage.records import Row


def window_of(rewards: list[float]) -> ContextWindow:
    vectors = np.arange(len(rewards), dtype=np.float32)[:, None]
    rows = [Row(i, i, reward, 1, None, 0.0, None) for i, reward in enumerate(rewards)]
    return ContextWindow.empty(1).extended(len(rows), rows, vectors, 2048)


@given(st.lists(st.sampled_from([0.0, 0.4, 1.0]), max_size=60), st.integers(1, 40))
def test_any_choice_is_ordered_distinct_and_as_large_as_it_may(
    rewards: list[float], limit: int
) -> None:
    window = window_of(rewards)
    queries = np.array([[3.0], [30.0]], np.float32)
    for how in Selection:
        chosen = select(window, limit, how, queries)
        assert len(chosen) == min(limit, len(rewards))
        assert (np.diff(chosen) > 0).all()
        np.testing.assert_array_equal(chosen, select(window, limit, how, queries))


def test_recent_takes_the_end() -> None:
    window = window_of([0.0] * 10)
    np.testing.assert_array_equal(select(window, 3, Selection.RECENT), [7, 8, 9])


@given(st.integers(0, 30), st.integers(2, 20))
def test_balanced_takes_both_kinds_alike_as_far_as_there_are(good: int, limit: int) -> None:
    window = window_of([1.0] * good + [0.0] * (30 - good))
    chosen = select(window, limit, Selection.BALANCED)
    found = int((window.rewards[chosen] == 1.0).sum())
    # Short of one kind, the other fills up.
    assert found == min(good, max(limit // 2, limit - (30 - good)))


def test_nearest_serves_every_query() -> None:
    window = window_of([0.0] * 50)
    queries = np.array([[10.2], [40.1]], np.float32)
    np.testing.assert_array_equal(
        select(window, 6, Selection.NEAREST, queries), [9, 10, 11, 39, 40, 41]
    )
    with pytest.raises(ValueError, match="queries"):
        select(window, 6, Selection.NEAREST)
