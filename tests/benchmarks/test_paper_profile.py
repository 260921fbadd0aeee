from benchmarks.paper_profile import SMALL, TRUE, PaperBench, context_bytes, policies_in


def test_figures_are_of_what_is_kept() -> None:
    """The bytes that are computed for the paper's size are those of a context that was read."""
    found = PaperBench(SMALL, "cpu").measure(0)
    computed = context_bytes(SMALL) / 1e6
    assert computed < found["context_mb"] < 1.02 * computed
    assert found["all_cached_s"] < found["context_cached_s"] < found["cold_s"]
    assert found["all_cached_s"] < found["joint_s"]
    contexts = policies_in(80e9)
    assert 10 < contexts < 80e9 / context_bytes(TRUE)
