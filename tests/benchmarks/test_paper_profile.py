"""The benchmark of the paper's profile."""

import pytest

from benchmarks.paper_profile import SMALL, TRUE, PaperBench, context_bytes, policies_in


@pytest.mark.long
def test_the_computed_size_of_a_context_matches_the_measured_size() -> None:
    """And cached calls are faster than calls that encode the context."""
    figures = PaperBench(SMALL, "cpu").measure(0)
    computed = context_bytes(SMALL) / 1e6
    assert computed < figures["context_mb"] < 1.02 * computed
    assert figures["all_cached_s"] < figures["context_cached_s"] < figures["cold_s"]
    assert figures["all_cached_s"] < figures["joint_s"]
    contexts = policies_in(80e9)
    assert 10 < contexts < 80e9 / context_bytes(TRUE)
