"""Windows that are extended, their ages and their nearest rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vzero_server.engine.estimators.window import ContextWindow, ages_of
from vzero_server.storage.records import Row


def rows(count: int, start: int) -> list[Row]:
    return [
        Row(seq, seq, (seq % 5) / 4, 1 + seq % 3, seq if seq % 2 else None, 100.0 + seq, None)
        for seq in range(start, start + count)
    ]


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 12))
def test_extending_piecewise_keeps_the_newest_in_order(pieces: list[int], limit: int) -> None:
    window, all_rows = ContextWindow.empty(3), []
    for count in pieces:
        new = rows(count, start=len(all_rows))
        all_rows += new
        vectors = np.array([[row.seq, 1, 2] for row in new], np.float32).reshape(-1, 3)
        features = np.array([[row.seq] for row in new], np.float16).reshape(-1, 1)
        window = window.extended(
            len(all_rows), new, vectors, limit, {"single": features, "double": 2 * features}
        )
    kept = all_rows[-limit:]
    assert len(window) == len(kept)
    np.testing.assert_array_equal(window.embeddings[:, 0], [row.seq for row in kept])
    if all_rows:
        for name, factor in (("single", 1), ("double", 2)):
            expected = [factor * row.seq for row in kept]
            np.testing.assert_array_equal(window.features[name][:, 0], expected)
    np.testing.assert_allclose(window.rewards, [row.reward for row in kept])
    np.testing.assert_array_equal(window.rollouts, [row.rollouts for row in kept])
    steps = [row.step for row in kept if row.step is not None]
    assert window.summary.newest_step == (max(steps) if steps else None)
    assert window.summary.newest_observed_at == (kept[-1].observed_at if kept else None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8), st.integers(1, 12))
def test_the_newest_rows_are_embedded_without_a_gap(
    pieces: list[tuple[int, int]], embedded_rows: int
) -> None:
    window, total, embedded = ContextWindow.empty(1), 0, 0
    for count, most_embedded in pieces:
        new = rows(count, start=total)
        total += count
        vectors = np.array([[row.seq] for row in new[max(0, count - most_embedded) :]]).reshape(
            -1, 1
        )
        window = window.extended(
            total,
            new,
            vectors.astype(np.float32),
            20,
            {"icl": vectors.astype(np.float16)},
            embedded_rows,
        )
        embedded = min(embedded_rows, embedded + count if most_embedded >= count else most_embedded)
        assert (len(window), window.embedded_rows) == (min(total, 20), embedded)
        newest = list(range(total - embedded, total))
        assert window.embeddings[:, 0].tolist() == newest
        assert window.features["icl"][:, 0].tolist() == newest
        if embedded:
            nearest = window.nearest(np.array([[total - 1]], np.float32), 1)
            assert nearest.tolist() == [[len(window) - 1]]


@given(st.lists(st.integers(-1, 4), max_size=30))
def test_the_age_of_an_outcome_counts_the_outcomes_of_later_steps(steps: list[int]) -> None:
    ages = ages_of(np.array(steps, np.int64))
    assert ages.tolist() == [sum(later > step for later in steps) for step in steps]


def test_outcomes_without_steps_have_no_age() -> None:
    stepless = [Row(seq, seq, 0.5, 1, None, float(seq), None) for seq in range(9)]
    window = ContextWindow.empty(2).extended(9, stepless, np.zeros((9, 2), np.float32), 6)
    assert window.ages.tolist() == [0] * 6


def test_extending_leaves_the_old_window_unchanged() -> None:
    generator = np.random.default_rng(0)
    old = ContextWindow.empty(4).extended(
        5, rows(5, 0), generator.normal(size=(5, 4)).astype("f4"), 8
    )
    before = old.embeddings.copy()
    new = old.extended(10, rows(5, 5), generator.normal(size=(5, 4)).astype("f4"), 8)
    np.testing.assert_array_equal(old.embeddings, before)
    np.testing.assert_array_equal(new.embeddings[:3], before[2:])


def test_nearest_is_exact() -> None:
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(200, 8)).astype(np.float32)
    window = ContextWindow.empty(8).extended(200, rows(200, 0), vectors, 2048)
    queries = generator.normal(size=(30, 8)).astype(np.float32)
    distances = np.linalg.norm(queries[:, None] - vectors[None], axis=2)
    np.testing.assert_array_equal(window.nearest(queries, 7), distances.argsort(axis=1)[:, :7])
