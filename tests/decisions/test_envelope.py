import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vzero_server.decisions.envelope import envelope_slopes
from vzero_server.decisions.utility import utility


@given(arrays.arrays(float, (4, 7), elements=st.floats(-10, 10)), st.integers(0, 5))
def test_the_envelope_is_the_least_concave_function_above(
    utilities: np.ndarray, start: int
) -> None:
    utilities = utilities.copy()
    utilities[0, start + 1 : 6] = -np.inf
    slopes = envelope_slopes(utilities, np.full(4, start))
    assert (slopes[:, :start] == np.inf).all()
    assert (np.diff(slopes[:, start:], axis=1) <= 0).all()
    for row, row_slopes in zip(utilities, slopes, strict=True):
        envelope = row[start] + np.concatenate([[0.0], np.cumsum(row_slopes[start:])])
        for i, height in enumerate(envelope):
            # The highest chord over the point.
            points = range(len(envelope))
            chords = [
                row[start + j] + (row[start + k] - row[start + j]) * (i - j) / max(k - j, 1)
                for j in points
                for k in points
                if j <= i <= k and np.isfinite(row[start + j]) and np.isfinite(row[start + k])
            ]
            assert abs(height - max(chords)) < 1e-8


def test_the_convex_part_of_the_utility_is_bridged() -> None:
    utilities = utility(np.array([0.05, 0.5]), 128)
    slopes = envelope_slopes(utilities, np.array([2, 2]))
    bridge = np.flatnonzero(slopes[0, 2:] == slopes[0, 2])
    # Beyond the inflection at 2/|ln q|, about 39 rollouts.
    assert bridge[-1] > 39
    np.testing.assert_allclose(slopes[1, 10:], np.diff(utilities[1, 10:]), atol=1e-9)
